"""The test before real work: pairs whose better image is known, each asked with both sides, and a threshold to pass."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from imagewright.errors import InputError, Problem

DEFAULT_THRESHOLD = 0.8


@dataclass(frozen=True)
class GoldQuestion:
    """One known comparison as it is shown: `first` on the left."""

    first: str
    second: str
    better: str


@dataclass(frozen=True)
class CalibrationResult:
    """How an annotator did. left_share: share of answers that were the left image; 1 or 0 is somebody who does not look."""

    agreement: float
    left_share: float
    passed: bool


def gold_questions(gold: Sequence[tuple[str, str]], seed: int) -> list[GoldQuestion]:
    """Every (better, worse) pair twice, once on each side, in random order: who always clicks left scores exactly one half."""
    questions = [GoldQuestion(better, worse, better) for better, worse in gold]
    questions += [GoldQuestion(worse, better, better) for better, worse in gold]
    random.Random(seed).shuffle(questions)
    return questions


def judge_calibration(questions: Sequence[GoldQuestion], answers: Sequence[str], threshold: float = DEFAULT_THRESHOLD) -> CalibrationResult:
    """Agreement with the gold answers; passed at or above the threshold. Raises InputError without answers or with an easy threshold."""
    if not questions or len(questions) != len(answers):
        raise InputError(Problem("calibration", f"needs an answer to each of the {len(questions)} questions", len(answers)))
    if threshold <= 0.5:
        raise InputError(Problem("calibration.threshold", "must be above 0.5, which blind clicking reaches", threshold))
    right = sum(answer == question.better for question, answer in zip(questions, answers, strict=True))
    left = sum(answer == question.first for question, answer in zip(questions, answers, strict=True))
    agreement = right / len(questions)
    return CalibrationResult(agreement, left / len(questions), agreement >= threshold)
