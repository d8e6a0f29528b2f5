"""One grammar for every message a person reads: dotted key, rule, value received, fix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MAX_VALUE_CHARS = 120


@dataclass(frozen=True)
class Problem:
    """One mistake in what a person gave us.

    key: where, as a dotted path (`pretrain.stages.0.steps`, `store.url`). rule: what must hold.
    received: the value found there; None leaves it out (also the way to keep a secret out). fix: what to do next.
    """

    key: str
    rule: str
    received: object = None
    fix: str = ""

    def __str__(self) -> str:
        parts = [f"{self.key}: {self.rule}"]
        if self.received is not None:
            shown = repr(self.received)
            shown = shown if len(shown) <= MAX_VALUE_CHARS else shown[: MAX_VALUE_CHARS - 3] + "..."
            parts.append(f"received {shown}")
        if self.fix:
            parts.append(f"fix: {self.fix}")
        return "; ".join(parts)


class InputError(ValueError):
    """Something a person can mend. Carries every problem found, not only the first."""

    def __init__(self, problems: Problem | Sequence[Problem]) -> None:
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        assert self.problems, "an InputError needs at least one Problem"
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ConfigError(InputError):
    """A recipe, an override or a contradiction between two settings."""
