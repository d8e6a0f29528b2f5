"""What the curves and the progress line show."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from tiny_run import Recorder

from imagewright.training.hooks import CurveHook, ProgressHook, StepReport, format_seconds


def report(step: int, loss: float = 1.0, total: int = 4, flops: float = 0.0) -> StepReport:
    return StepReport(step, total, {"t": loss}, {"t": 2.0}, {"t": 1e-4}, {"tiny/x": loss}, 8, 1000, flops, 0.5, True)


def test_curves_are_means_over_the_interval_and_the_last_step_is_always_logged() -> None:
    recorder = Recorder()
    hook = CurveHook(recorder, every=3)  # type: ignore[arg-type]
    for step, loss in enumerate([1.0, 2.0, 3.0, 10.0], start=1):
        hook.after_step(report(step, loss))
    assert [step for step, _ in recorder.metrics] == [3, 4]
    assert recorder.metrics[0][1] == {
        "train/loss": 2.0,
        "train/grad_norm": 2.0,
        "train/learning_rate": pytest.approx(1e-4),
        "tiny/x": 2.0,
        "train/tokens_per_second": 2000.0,
    }
    assert recorder.metrics[1][1]["train/loss"] == 10.0


def test_mfu_is_the_share_of_the_peak_of_all_devices() -> None:
    recorder = Recorder()
    CurveHook(recorder, every=1, num_devices=2, peak_tflops=1.0).after_step(report(1, flops=0.25e12))  # type: ignore[arg-type]
    assert recorder.metrics[0][1]["train/mfu"] == pytest.approx(0.25e12 / 0.5 / 2e12)


def test_the_progress_line_shows_step_loss_rate_and_time_left() -> None:
    out = io.StringIO()
    ProgressHook(Console(file=out, width=200), seconds=0.0).after_step(report(1, 0.25))
    assert out.getvalue().strip() == "step 1/4  loss 0.2500  2,000 tokens/s  0:02 left"


def test_seconds_are_written_as_a_clock() -> None:
    assert [format_seconds(value) for value in (5, 65, 3599.6, 3661)] == ["0:05", "1:05", "1:00:00", "1:01:01"]
