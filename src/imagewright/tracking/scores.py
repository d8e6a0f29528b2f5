"""A score with its interval, and how it is written into the tags of a model version."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from imagewright.errors import Problem
from imagewright.tracking.job_run import TrackingError, check_name

SCORE_TAG = "score."
EVIDENCE_TAG = "evidence."


@dataclass(frozen=True)
class Score:
    """A value and the bounds of its 95 % interval (bootstrapped over prompts); bounds equal to the value mean no interval is known."""

    value: float
    low: float
    high: float
    ungated: str = ""
    """Why gates do not judge it, although it is shown."""

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.low, self.value, self.high))) or not self.low <= self.value <= self.high:
            raise TrackingError(
                Problem(
                    "score", "must be finite and lie inside its interval", [self.low, self.value, self.high], "evaluate the model again"
                )
            )


def score_tags(scores: Mapping[str, Score]) -> dict[str, str]:
    """`score.<metric>` -> JSON: [value, low, high], and why it is not gated where it is not."""
    written = {name: [score.value, score.low, score.high, *filter(None, [score.ungated])] for name, score in scores.items()}
    return {SCORE_TAG + check_name("metric", name): json.dumps(fields, ensure_ascii=False) for name, fields in written.items()}


def scores_of(tags: Mapping[str, str]) -> dict[str, Score]:
    """Reads scores back. Raises TrackingError for a tag somebody wrote by hand and got wrong."""
    scores = {}
    for name, text in tags.items():
        if name.startswith(SCORE_TAG):
            try:
                value, low, high, *reason = json.loads(text)
                scores[name.removeprefix(SCORE_TAG)] = Score(float(value), float(low), float(high), " ".join(map(str, reason)))
            except (TypeError, ValueError) as error:
                raise TrackingError(Problem(f"tag {name}", "must be [value, low, high]", text, "evaluate the version again")) from error
    return scores
