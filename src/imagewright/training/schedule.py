"""Learning rate as a pure function of the step, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

LearningRate = Callable[[int], float]
Decay = Literal["constant", "cosine", "linear"]


@dataclass(frozen=True)
class Segment:
    """One stretch of steps: linear warm-up to `peak` over `warmup_steps`, then decay to `peak * final_ratio` at its end."""

    steps: int
    peak: float
    warmup_steps: int = 0
    decay: Decay = "constant"
    final_ratio: float = 0.0

    def at(self, step: int) -> float:
        """Rate of `step`, counted from the start of the segment. The first warm-up step already moves: peak / warmup_steps."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        if self.decay == "constant":
            return self.peak
        progress = min(1.0, (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps))
        left = 0.5 * (1.0 + math.cos(math.pi * progress)) if self.decay == "cosine" else 1.0 - progress
        return self.peak * (self.final_ratio + (1.0 - self.final_ratio) * left)


def learning_rate(segments: Sequence[Segment]) -> LearningRate:
    """Rate over consecutive segments; past the end the last one's final rate holds."""
    assert segments, "a schedule needs a segment"

    def at(step: int) -> float:
        for segment in segments[:-1]:
            if step < segment.steps:
                return segment.at(step)
            step -= segment.steps
        return segments[-1].at(min(step, segments[-1].steps))

    return at
