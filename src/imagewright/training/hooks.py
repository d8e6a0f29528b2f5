"""What watches training from outside the loop: the curves of the tracked run and the progress line."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console

from imagewright.tracking.job_run import JobRun


@dataclass(frozen=True)
class StepReport:
    """One finished optimizer step, over all processes. losses, grad_norms, learning_rates: by network."""

    step: int
    """Steps done, this one included."""
    total_steps: int
    losses: Mapping[str, float]
    grad_norms: Mapping[str, float]
    learning_rates: Mapping[str, float]
    metrics: Mapping[str, float]
    num_samples: int
    num_tokens: int
    flops: float
    seconds: float
    applied: bool

    @property
    def loss(self) -> float:
        """Loss of the first network."""
        return next(iter(self.losses.values()), float("nan"))


class Hook(Protocol):
    """Called after every optimizer step, in the first process only."""

    def after_step(self, report: StepReport) -> None:
        """Looks at a finished step."""


@dataclass
class Interval:
    """Sums over the steps since the last point."""

    values: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    tokens: int = 0
    flops: float = 0.0
    seconds: float = 0.0

    def add(self, name: str, value: float) -> None:
        """Adds one value of a step."""
        self.values[name] = self.values.get(name, 0.0) + value
        self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """Mean of every value over the steps that had it."""
        return {name: value / self.counts[name] for name, value in self.values.items()}


class CurveHook:
    """Logs means over `every` steps: one point, one call, whatever the step rate."""

    def __init__(self, run: JobRun, every: int, num_devices: int = 1, peak_tflops: float = 0.0) -> None:
        self.run, self.every, self.num_devices, self.peak_tflops = run, every, num_devices, peak_tflops
        self.interval = Interval()

    def after_step(self, report: StepReport) -> None:
        """Collects; logs at every `every`-th step and at the last."""
        interval = self.interval
        single = len(report.losses) <= 1
        for kind, values in (("loss", report.losses), ("grad_norm", report.grad_norms), ("learning_rate", report.learning_rates)):
            for network, value in values.items():
                interval.add(f"train/{kind}" if single else f"train/{kind}_{network}", value)
        for name, value in report.metrics.items():
            interval.add(name, value)
        interval.tokens += report.num_tokens
        interval.flops += report.flops
        interval.seconds += report.seconds
        if report.step % self.every == 0 or report.step == report.total_steps:
            self.run.log_metrics(self.point(), report.step)
            self.interval = Interval()

    def point(self) -> dict[str, float]:
        """The metrics of the interval."""
        seconds = max(self.interval.seconds, 1e-9)
        point = {**self.interval.means(), "train/tokens_per_second": self.interval.tokens / seconds}
        if self.peak_tflops and self.interval.flops:
            point["train/mfu"] = self.interval.flops / seconds / (self.num_devices * self.peak_tflops * 1e12)
        return point


class ProgressHook:
    """One line on the console at most every `seconds`, and at the end."""

    def __init__(self, console: Console, seconds: float = 5.0, num_devices: int = 1, peak_tflops: float = 0.0) -> None:
        self.console, self.seconds, self.num_devices, self.peak_tflops = console, seconds, num_devices, peak_tflops
        self.last_time = 0.0
        self.steps, self.tokens, self.busy, self.flops = 0, 0, 0.0, 0.0

    def after_step(self, report: StepReport) -> None:
        """Prints step, loss, tokens/s, MFU where the peak is known, and the time left at the present rate."""
        self.steps, self.tokens = self.steps + 1, self.tokens + report.num_tokens
        self.busy, self.flops = self.busy + report.seconds, self.flops + report.flops
        now = time.monotonic()
        if now - self.last_time < self.seconds and report.step != report.total_steps:
            return
        left = (report.total_steps - report.step) * self.busy / self.steps
        parts = [
            f"step {report.step}/{report.total_steps}",
            f"loss {report.loss:.4f}",
            f"{self.tokens / max(self.busy, 1e-9):,.0f} tokens/s",
        ]
        if self.peak_tflops and self.flops:
            parts.append(f"MFU {self.flops / self.busy / (self.num_devices * self.peak_tflops * 1e12):.1%}")
        parts.append(f"{format_seconds(left)} left")
        self.console.print("  ".join(parts), highlight=False)
        self.last_time = now
        self.steps, self.tokens, self.busy, self.flops = 0, 0, 0.0, 0.0


def format_seconds(seconds: float) -> str:
    """1:02:03, or 2:03 below an hour."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
