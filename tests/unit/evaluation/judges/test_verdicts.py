"""A judge that fails is counted, and what it said is never a score."""

from __future__ import annotations

import numpy as np
import pytest

from imagewright.evaluation.judges.verdicts import JudgeFailed, Pixels, Prompt, Tally, ask, judge_prompts

IMAGE = np.zeros((4, 4, 3), np.uint8)
PROMPT = Prompt("p", "task", "a circle", None)


def crashes(_: Pixels, __: Prompt) -> float:
    raise ZeroDivisionError


def gives_up(_: Pixels, __: Prompt) -> float:
    raise JudgeFailed("neither yes nor no")


@pytest.mark.parametrize(
    ("judge", "reason"),
    [
        (crashes, "crashed: ZeroDivisionError"),
        (gives_up, "neither yes nor no"),
        (lambda *_: float("nan"), "score outside 0..1"),
        (lambda *_: 1.01, "score outside 0..1"),
        (lambda *_: -0.01, "score outside 0..1"),
        (lambda *_: "very nice", "crashed: ValueError"),
    ],
)
def test_failures_are_counted_by_reason(judge: object, reason: str) -> None:
    tally = Tally()
    assert ask(judge, IMAGE, PROMPT, tally) is None  # type: ignore[arg-type]
    assert dict(tally.failed) == {reason: 1}
    assert tally.failed_share == 1.0


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_bounds_are_scores(value: float) -> None:
    tally = Tally()
    assert ask(lambda *_: value, IMAGE, PROMPT, tally) == value
    assert tally.failed_share == 0.0


def test_a_prompt_without_any_verdict_has_no_score() -> None:
    images = np.zeros((4, 4, 4, 3), np.uint8)
    images[0] = 255
    tally = Tally()

    def judge(image: Pixels, _: Prompt) -> float:
        if image.max() == 0:
            raise JudgeFailed("dark")
        return 0.5

    found = judge_prompts(judge, None, images, [PROMPT, Prompt("q", "task", "a star", None)], 2, tally)
    assert found == {"p": 0.5}
    assert (tally.asked, tally.failed["dark"]) == (4, 3)
