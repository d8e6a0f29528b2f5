"""What a person finds in MLflow after a job ran: on a healthy server, on one that failed, after a kill."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from metric_kill import kill_loggers  # conftest puts tests/fixtures on the path
from mlflow import MlflowClient
from mlflow.entities import Run

from imagewright.tracking import runs
from imagewright.tracking.identity import JobIdentity
from imagewright.tracking.job_run import NullRun, TrackingError, open_job_run
from imagewright.tracking.runs import MlflowRun, flatten, groups, open_pipeline_run, shorten

Wait = Callable[[Callable[[], bool]], None]
DIGEST = "ab" * 32


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses, no settings from outside."""
    monkeypatch.setattr(runs, "FLUSH_SECONDS", 0.05)
    monkeypatch.setattr(runs, "MAX_BACKOFF_SECONDS", 0.3)
    for name in ("MLFLOW_RUN_ID", "IMAGEWRIGHT_PIPELINE_RUN", "IMAGEWRIGHT_IMAGE", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


def open_run(uri: str, spool: Path, task: str = "pretrain-dit", config: dict[str, Any] | None = None, **identity: Any) -> MlflowRun:
    described = JobIdentity(task=task, stage="pretrain", settle_seconds=0.05, **identity)
    return MlflowRun(uri, described, spool, config or {}, system_seconds=0, drain_seconds=30)


def find(client: MlflowClient, **tags: str) -> list[Run]:
    experiment = client.get_experiment_by_name("imagewright")
    assert experiment is not None
    text = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    return list(client.search_runs([experiment.experiment_id], text))


def points(client: MlflowClient, run: Run, name: str) -> list[tuple[int, float]]:
    return sorted((metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name))


def test_a_job_shows_its_numbers_settings_data_and_files(server_uri: str, client: MlflowClient, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("<h1>fine</h1>")
    config = {"pretrain": {"steps": 10, "sizes": [256, 512], "stages": [{"lr": 1e-4}], "note": None}}
    run = open_run(
        server_uri,
        tmp_path / "spool",
        config=config,
        pipeline_run="run-1",
        recipe="demo",
        data_rev="latents@3",
        git_commit="c0ffee",
        image="sha256:1",
    )
    for step in range(2500):
        run.log_metrics({"train/loss": 1.0 / (step + 1)}, step)
    run.log_dataset("latents", DIGEST, f"imagewright://sha256/{DIGEST}", "training")
    run.log_event("checkpoint", 7, "saved")
    run.close(headline={"validation/loss": 0.25}, report=tmp_path / "report.html")

    (job,) = find(client, pipeline_run="run-1", task="pretrain-dit")
    (parent,) = find(client, pipeline_run="run-1", role="pipeline")
    assert points(client, job, "train/loss") == [(step, 1.0 / (step + 1)) for step in range(2500)]
    assert job.info.status == "FINISHED"
    assert job.data.params == {
        "pretrain.steps": "10",
        "pretrain.sizes": "[256, 512]",
        "pretrain.stages.0.lr": "0.0001",
        "pretrain.note": "null",
    }
    wanted = {
        "stage": "pretrain",
        "recipe": "demo",
        "data_rev": "latents@3",
        "git_commit": "c0ffee",
        "image": "sha256:1",
        "event.checkpoint.7": "saved",
    }
    assert wanted.items() <= job.data.tags.items()
    assert job.data.tags["mlflow.parentRunId"] == parent.info.run_id
    (dataset,) = job.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("latents", DIGEST[:36])
    assert json.loads(dataset.dataset.source)["sha256"] == DIGEST
    assert [entry.path for entry in client.list_artifacts(job.info.run_id, "report")] == ["report/report.html"]
    assert len(client.list_artifacts(job.info.run_id, "events")) == 1
    assert parent.data.metrics == {"pretrain-dit/validation/loss": 0.25}
    assert {"recipe": "demo", "data_rev.pretrain": "latents@3"}.items() <= parent.data.tags.items()
    assert [entry.path for entry in client.list_artifacts(parent.info.run_id, "report")] == ["report/pretrain-dit"]
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_retry_goes_on_in_the_same_run_and_says_so_with_its_status(server_uri: str, client: MlflowClient, tmp_path: Path) -> None:
    for attempt in range(3):
        run = open_run(server_uri, tmp_path / "spool", config={"a": 1}, pipeline_run="run-2")
        run.log_metrics({"train/loss": float(attempt)}, attempt)
        run.close("FAILED" if attempt < 2 else "FINISHED")
    (job,) = find(client, pipeline_run="run-2", task="pretrain-dit")
    assert job.info.status == "FINISHED"
    assert points(client, job, "train/loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert len(find(client, pipeline_run="run-2", role="pipeline")) == 1


def test_resuming_with_another_configuration_opens_a_run_that_names_the_old_one(
    server_uri: str, client: MlflowClient, tmp_path: Path
) -> None:
    open_run(server_uri, tmp_path / "a", config={"steps": 1}, pipeline_run="run-3").close("FAILED")
    open_run(server_uri, tmp_path / "b", config={"steps": 2}, pipeline_run="run-3").close()
    newest, oldest = find(client, pipeline_run="run-3", task="pretrain-dit")
    assert newest.data.tags["resumed_from"] == oldest.info.run_id
    assert (oldest.data.params["steps"], newest.data.params["steps"]) == ("1", "2")
    assert newest.data.tags["mlflow.parentRunId"] == oldest.data.tags["mlflow.parentRunId"]


def test_the_run_that_kubeflow_made_is_joined(
    server_uri: str, client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = client.create_experiment("kubeflow")
    outer = client.create_run(experiment)
    inner = client.create_run(experiment, tags={"mlflow.parentRunId": outer.info.run_id})
    monkeypatch.setenv("MLFLOW_RUN_ID", inner.info.run_id)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server_uri)
    run = open_job_run(task="sft-dit", stage="sft", spool=tmp_path, config={"a": 1})
    run.log_metrics({"train/loss": 2.0}, 0)
    run.close(headline={"validation/loss": 1.0})
    joined = client.get_run(inner.info.run_id)
    assert joined.data.metrics["train/loss"] == 2.0
    assert joined.data.tags["stage"] == "sft"
    assert client.get_run(outer.info.run_id).data.metrics == {"sft-dit/validation/loss": 1.0}


def test_an_injected_run_that_is_gone_costs_a_warning_not_the_numbers(
    server_uri: str, client: MlflowClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = open_run(server_uri, tmp_path, pipeline_run="run-4", injected_run="0" * 32)
    run.log_metrics({"train/loss": 2.0}, 0)
    run.close()
    (job,) = find(client, pipeline_run="run-4", task="pretrain-dit")
    assert job.data.metrics["train/loss"] == 2.0
    assert "cannot be joined" in caplog.text


@pytest.mark.e2e
def test_eight_jobs_that_start_at_once_share_the_parent_their_runner_opened(server_uri: str, client: MlflowClient, tmp_path: Path) -> None:
    launched = open_pipeline_run(server_uri, "run-5", tmp_path / "parent", {})
    opened = [open_run(server_uri, tmp_path / str(number), task=f"job-{number}", pipeline_run="run-5") for number in range(8)]
    for run in (*opened, launched):
        run.close()
    (parent,) = find(client, pipeline_run="run-5", role="pipeline")
    jobs = find(client, pipeline_run="run-5", role="job")
    assert len(jobs) == 8
    assert {job.data.tags["mlflow.parentRunId"] for job in jobs} == {parent.info.run_id}


def test_a_job_outside_a_pipeline_that_is_done_twice_makes_two_runs(server_uri: str, client: MlflowClient, tmp_path: Path) -> None:
    for _ in range(2):
        open_run(server_uri, tmp_path, task="single-job").close()
    assert len(find(client, task="single-job")) == 2


def test_numbers_that_are_not_finite_become_events(server_uri: str, client: MlflowClient, tmp_path: Path) -> None:
    run = open_run(server_uri, tmp_path, pipeline_run="run-6")
    for step in range(runs.MAX_EVENT_TAGS + 5):
        run.log_metrics({"train/loss": float("nan"), "train/grad_norm": 1.0}, step)
    run.close()
    (job,) = find(client, pipeline_run="run-6", task="pretrain-dit")
    assert "train/loss" not in job.data.metrics
    assert len(points(client, job, "train/grad_norm")) == runs.MAX_EVENT_TAGS + 5
    assert job.data.tags["event.non_finite.0"] == "train/loss=nan"
    assert sum(name.startswith("event.") for name in job.data.tags) == runs.MAX_EVENT_TAGS
    (events,) = client.list_artifacts(job.info.run_id, "events")
    assert len(Path(client.download_artifacts(job.info.run_id, events.path)).read_text().splitlines()) == runs.MAX_EVENT_TAGS + 5


@pytest.mark.parametrize("mode", ["lost", *(pytest.param(mode, marks=pytest.mark.e2e) for mode in ("500", "drop", "text"))])
def test_a_server_that_fails_for_a_while_costs_nothing(
    unreliable: Any, client: MlflowClient, tmp_path: Path, caplog: pytest.LogCaptureFixture, wait_until: Wait, mode: str
) -> None:
    run = open_run(unreliable.uri, tmp_path, pipeline_run=f"run-7-{mode}")
    for step in range(1500):
        if step == 700:
            unreliable.mode = mode
        run.log_metrics({"train/loss": step / 7}, step)
    wait_until(lambda: unreliable.num_failed >= 3)
    unreliable.mode = "pass"
    run.close()
    (job,) = find(client, pipeline_run=f"run-7-{mode}", task="pretrain-dit")
    assert points(client, job, "train/loss") == [(step, step / 7) for step in range(1500)]
    assert caplog.text.count("does not answer") == 1
    assert job.info.status == "FINISHED"


@pytest.mark.e2e
def test_a_server_that_is_down_from_start_to_end_leaves_all_to_the_next_attempt(
    unreliable: Any, client: MlflowClient, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "DRAIN_SECONDS", 0.2)
    unreliable.mode = "500"
    identity = JobIdentity(task="pretrain-dit", pipeline_run="run-8", settle_seconds=0.05)
    first = MlflowRun(unreliable.uri, identity, tmp_path, {}, system_seconds=0, drain_seconds=0.2)
    first.log_metrics({"train/loss": 1.0}, 0)
    first.close("FAILED")
    assert "delivered when this job runs again" in caplog.text
    first._thread.join(10)
    unreliable.mode = "pass"
    second = open_run(unreliable.uri, tmp_path, pipeline_run="run-8")
    second.log_metrics({"train/loss": 2.0}, 1)
    second.close()
    (job,) = find(client, pipeline_run="run-8", task="pretrain-dit")
    assert points(client, job, "train/loss") == [(0, 1.0), (1, 2.0)]


def test_a_full_disk_costs_a_warning_and_the_numbers_still_arrive(
    server_uri: str, client: MlflowClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = open_run(server_uri, tmp_path, pipeline_run="run-9")
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, run._writer._file)
    for step in range(20):
        run.log_metrics({"train/loss": float(step)}, step)
    run.close()
    os.close(full)
    (job,) = find(client, pipeline_run="run-9", task="pretrain-dit")
    assert points(client, job, "train/loss") == [(step, float(step)) for step in range(20)]
    assert caplog.text.count("cannot be written") == 1


def test_what_the_server_refuses_is_set_aside_and_the_rest_arrives(
    server_uri: str, client: MlflowClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = open_run(server_uri, tmp_path, pipeline_run="run-10")
    run.log_params({"steps": 1})
    run.log_params({"steps": 2, "seed": 3})
    run.log_metrics({"train/loss": 1.0}, 0)
    run.close()
    (job,) = find(client, pipeline_run="run-10", task="pretrain-dit")
    assert job.data.params == {"steps": "1", "seed": "3"}
    assert job.data.metrics == {"train/loss": 1.0}
    refused = [json.loads(line) for line in (tmp_path / "refused.jsonl").read_text().splitlines()]
    assert [item["entry"]["v"] for item in refused] == [{"steps": "2"}]
    assert "refused" in caplog.text


def test_after_kill_nine_every_point_that_was_logged_is_readable_once(server_uri: str, tmp_path: Path) -> None:
    report = kill_loggers(server_uri, tmp_path, num_kills=5, seed=5, name="run-11", life_seconds=0.6)
    assert report.num_logged > 0
    assert report.is_clean, report


def test_a_job_that_raises_is_marked_failed_with_its_reason(server_uri: str, client: MlflowClient, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="diverged"), open_run(server_uri, tmp_path, pipeline_run="run-12"):
        raise ValueError("diverged at step 3")
    (job,) = find(client, pipeline_run="run-12", task="pretrain-dit")
    assert (job.info.status, job.data.tags["error"]) == ("FAILED", "ValueError: diverged at step 3")


def test_the_pipeline_opens_the_parent_its_jobs_find(server_uri: str, client: MlflowClient, tmp_path: Path) -> None:
    parent = open_pipeline_run(server_uri, "run-13", tmp_path / "parent", {"steps": 3}, recipe="demo")
    open_run(server_uri, tmp_path / "job", pipeline_run="run-13").close()
    parent.close()
    (found,) = find(client, pipeline_run="run-13", role="pipeline")
    (job,) = find(client, pipeline_run="run-13", role="job")
    assert job.data.tags["mlflow.parentRunId"] == found.info.run_id
    assert (found.info.status, found.data.params["steps"]) == ("FINISHED", "3")


def test_machine_figures_are_logged_under_mlflows_names(server_uri: str, client: MlflowClient, tmp_path: Path, wait_until: Wait) -> None:
    run = MlflowRun(server_uri, JobIdentity(task="figures", pipeline_run="run-14"), tmp_path, {}, system_seconds=0.05)
    wait_until(
        lambda: bool(find(client, task="figures")) and "system/cpu_utilization_percentage" in find(client, task="figures")[0].data.metrics
    )
    run.close()
    assert "system/system_memory_usage_percentage" in find(client, task="figures")[0].data.metrics


def test_an_address_that_is_no_server_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="http"):
        open_job_run(task="a", stage="a", spool=tmp_path, tracking_uri="sqlite:///x.db")
    assert isinstance(open_job_run(task="a", stage="a", spool=tmp_path, tracking_uri=""), NullRun)


def test_settings_longer_than_mlflow_takes_still_differ_when_they_differ() -> None:
    assert shorten("x" * 6000, 6000) == "x" * 6000
    one, two = shorten("x" * 6001, 6000), shorten("x" * 6002, 6000)
    assert len(one) == len(two) == 6000
    assert one != two


def test_settings_are_split_into_requests_the_server_takes() -> None:
    assert [len(group) for group in groups({str(index): "v" for index in range(201)})] == [100, 100, 1]
    assert all(sum(len(value) for value in group.values()) < 100_000 for group in groups({str(index): "v" * 6000 for index in range(50)}))
    assert flatten({"a b": {"c/d": (1, 2)}, "x\n": {}}) == {"a b.c/d": "[1, 2]", "x_": "{}"}


@pytest.fixture(autouse=True)
def warnings_in_caplog(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="imagewright.tracking")
