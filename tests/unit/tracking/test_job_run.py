"""What a job sees when no tracking server is configured: the same checks, nothing stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imagewright.tracking.job_run import MAX_STEP, NullRun, TrackingError, open_job_run, split_metrics


def test_without_a_server_a_job_gets_a_run_that_stores_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with open_job_run(task="pretrain-dit", stage="pretrain", spool=tmp_path) as run:
        run.log_metrics({"train/loss": np.float32(0.5), "train/steps": 3}, step=0)
        run.log_event("checkpoint", 0, "saved")
    assert isinstance(run, NullRun)
    assert list(tmp_path.iterdir()) == []


def test_values_that_are_not_finite_are_told_apart() -> None:
    finite, odd = split_metrics({"a": 1, "b": float("nan"), "c": float("-inf"), "d": 10**400, "e": np.float64(2.5)})
    assert finite == {"a": 1.0, "e": 2.5}
    assert odd == {"b": "nan", "c": "-inf", "d": "inf"}


@pytest.mark.parametrize("name", ["", "a" * 251, "a\nb", "loss;drop", "/abs", "a/../b", "a//b", "a/", "a\n", 3])
def test_a_metric_name_that_no_server_stores_is_refused_when_logged(name: str) -> None:
    with pytest.raises(TrackingError, match="metric name"):
        NullRun().log_metrics({name: 1.0}, step=0)


@pytest.mark.parametrize("step", [-1, MAX_STEP + 1, 1.5, True, "3"])
def test_a_step_that_is_no_step_is_refused(step: int) -> None:
    with pytest.raises(TrackingError, match="step"):
        NullRun().log_metrics({"a": 1.0}, step=step)


@pytest.mark.parametrize("step", [0, MAX_STEP])
def test_the_first_and_the_last_step_are_taken(step: int) -> None:
    NullRun().log_metrics({"a" * 250: 1.0}, step=step)


def test_a_tensor_of_several_values_is_no_metric() -> None:
    with pytest.raises(TrackingError, match="one number"):
        NullRun().log_metrics({"a": np.zeros(3)}, step=0)


def test_a_short_digest_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="64 hexadecimal"):
        NullRun().log_dataset("curated", "abc", "imagewright://sha256/abc", "training")
    with pytest.raises(TrackingError, match="does not exist"):
        NullRun().log_artifact(tmp_path / "none.html")
