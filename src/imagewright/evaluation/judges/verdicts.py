"""Verdicts of judges that may fail: a crash or a nonsensical answer is counted by its reason and never taken for a score."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
MAX_FAILED_SHARE = 0.05
"""More failed verdicts than this and a suite has no score: what is left is no longer the suite."""


class JudgeFailed(Exception):
    """A judge that could not judge one image. The message is its reason, counted as it is: keep it short and free of data."""


@dataclass(frozen=True)
class Prompt:
    """One prompt of a suite. truth: what its judge needs to know."""

    prompt_id: str
    task: str
    text: str
    truth: Any
    split: str = ""


Judge = Callable[[Pixels, Prompt], float]
"""Image [H, W, 3] and prompt -> score in 0..1. Raises JudgeFailed, or anything else, which counts as a crash."""
SetJudge = Callable[[Pixels, Prompt], Sequence[float | None]]
"""All images of a prompt [K, H, W, 3] -> scores; None where the judge failed."""


@dataclass
class Tally:
    """How a judge behaved."""

    asked: int = 0
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def failed_share(self) -> float:
        """Share of verdicts that are no verdicts."""
        return self.failed.total() / max(1, self.asked)


def ask(judge: Judge, image: Pixels, prompt: Prompt, tally: Tally) -> float | None:
    """One verdict in 0..1; None, counted with its reason, when the judge crashes or says something that is no score."""
    tally.asked += 1
    try:
        value = float(judge(image, prompt))
    except JudgeFailed as failure:
        tally.failed[str(failure)] += 1
        return None
    except Exception as error:  # a judge is foreign code: whatever it raises must not end the evaluation
        tally.failed[f"crashed: {type(error).__name__}"] += 1
        return None
    if not math.isfinite(value) or not 0.0 <= value <= 1.0:
        tally.failed["score outside 0..1"] += 1
        return None
    return value


def judge_prompts(
    judge: Judge | None, judge_set: SetJudge | None, images: Pixels, prompts: Sequence[Prompt], copies: int, tally: Tally
) -> dict[str, float]:
    """Mean verdict of every prompt over its images [P * copies, H, W, 3], in prompt order; prompts without a verdict are left out."""
    found: dict[str, float] = {}
    for index, prompt in enumerate(prompts):
        mine = images[index * copies : (index + 1) * copies]
        if judge_set is not None:
            tally.asked += 1
            values: Sequence[float | None] = judge_set(mine, prompt)
            tally.failed["too few images"] += not values
        else:
            assert judge is not None, "a suite has a judge of images or of sets"
            values = [ask(judge, image, prompt, tally) for image in mine]
        given = [value for value in values if value is not None]
        if given:
            found[prompt.prompt_id] = float(np.mean(given))
    tally.failed += Counter()  # drops reasons that were counted zero times
    return found
