"""The test before real work lets attentive people through and stops blind clicking."""

from __future__ import annotations

import pytest

from imagewright.annotation.calibration import gold_questions, judge_calibration
from imagewright.errors import InputError

GOLD = [(f"good-{place}", f"bad-{place}") for place in range(5)]


def test_each_known_pair_is_asked_with_both_sides() -> None:
    questions = gold_questions(GOLD, 3)
    assert sorted((one.first, one.second) for one in questions) == sorted(GOLD + [(worse, better) for better, worse in GOLD])


def test_annotator_who_always_clicks_left_fails_at_one_half() -> None:
    questions = gold_questions(GOLD, 3)
    result = judge_calibration(questions, [one.first for one in questions])
    assert (result.agreement, result.left_share, result.passed) == (0.5, 1.0, False)


def test_threshold_is_passed_at_and_failed_just_below() -> None:
    questions = gold_questions(GOLD, 0)
    answers = [one.better for one in questions]
    wrong = [one.first if one.better == one.second else one.second for one in questions]
    assert judge_calibration(questions, wrong[:2] + answers[2:], 0.8).passed
    assert not judge_calibration(questions, wrong[:3] + answers[3:], 0.8).passed


def test_missing_answers_and_easy_thresholds_are_refused() -> None:
    questions = gold_questions(GOLD, 0)
    with pytest.raises(InputError, match="needs an answer to each of the 10"):
        judge_calibration(questions, [])
    with pytest.raises(InputError, match=r"above 0\.5"):
        judge_calibration(questions, [one.better for one in questions], 0.5)
