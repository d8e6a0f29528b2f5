"""Keeps one bad step from ruining a run: an update with a NaN or a spike is skipped; several in a row roll the run back."""

from __future__ import annotations

import enum
import math
import statistics
from collections.abc import Mapping
from typing import Any

from imagewright.config.training import TrainingConfig


class Verdict(enum.Enum):
    """What to do with the update just computed."""

    APPLY = "apply"
    SKIP = "skip"
    ROLL_BACK = "roll_back"


class TrainingDivergedError(RuntimeError):
    """The run went bad again after every roll-back it was allowed."""


class Guard:
    """Judges loss and gradient norm of every network against their recent medians."""

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self.recent: dict[str, list[float]] = {}
        self.skipped = 0
        self.rollbacks = 0
        self.reason = ""

    def judge(self, values: Mapping[str, float]) -> Verdict:
        """values: `<network>/loss`, `<network>/grad_norm`. Only applied steps enter the medians, so a bad stretch cannot become normal.

        Raises TrainingDivergedError when the allowed roll-backs are used up.
        """
        self.reason = self.find_fault(values)
        if not self.reason:
            self.skipped = 0
            for name, value in values.items():
                self.recent[name] = [*self.recent.get(name, []), value][-self.config.spike_window_steps :]
            return Verdict.APPLY
        self.skipped += 1
        if self.skipped <= self.config.max_skipped_steps:
            return Verdict.SKIP
        self.skipped = 0
        self.rollbacks += 1
        if self.rollbacks > self.config.max_rollbacks:
            raise TrainingDivergedError(
                f"{self.reason}, after {self.config.max_rollbacks} roll-backs; lower the learning rate or check the data"
            )
        return Verdict.ROLL_BACK

    def find_fault(self, values: Mapping[str, float]) -> str:
        """Why this step must not be applied; empty when nothing is wrong."""
        for name, value in values.items():
            if not math.isfinite(value):
                return f"{name} is {value}"
            history = self.recent.get(name, [])
            if self.config.spike_factor and len(history) >= self.config.spike_window_steps // 4:
                median = abs(statistics.median(history))
                if abs(value) > self.config.spike_factor * median:
                    return f"{name} {value:.4g} exceeds {self.config.spike_factor:g} times its recent median {median:.4g}"
        return ""

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs to judge alike."""
        return {"recent": self.recent, "skipped": self.skipped, "rollbacks": self.rollbacks}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes back a saved state."""
        self.recent = {name: list(values) for name, values in state["recent"].items()}
        self.skipped, self.rollbacks = int(state["skipped"]), int(state["rollbacks"])
