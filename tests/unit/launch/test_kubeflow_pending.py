"""A step that no node takes: the run is ended after the deadline, with the step and its pod in words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fixtures.kubeflow_server import Cluster, kubeflow_server

from imagewright.config import Config
from imagewright.config.kubeflow import KubeflowConfig
from imagewright.launch.ir import PipelineIR
from imagewright.launch.kubeflow import Kubeflow, KubeflowError
from imagewright.launch.kubeflow_pending import PendingSteps

IMAGE = "registry.example/imagewright-worker@sha256:" + "a" * 64
PARTY = PipelineIR(
    {"pipelineInfo": {"name": "party"}, "root": {"dag": {"tasks": {}}}, "components": {}, "deploymentSpec": {"executors": {}}}
)
WAITS = {"task_id": "t-1", "display_name": "pick-fruit", "state": "PENDING", "pod_name": "party-x-123"}


@pytest.fixture
def server() -> Iterator[Cluster]:
    with kubeflow_server() as started:
        yield started


def watcher(server: Cluster, seconds: list[float], deadline: float = 60.0) -> tuple[Kubeflow, PendingSteps, str]:
    """A run being watched on a clock that a test sets."""
    kubeflow = Kubeflow(KubeflowConfig(url=server.url, worker_image=IMAGE, pending_deadline_seconds=deadline))
    return kubeflow, PendingSteps(kubeflow, clock=lambda: seconds[-1]), kubeflow.submit(PARTY, Config(), "monday", "c0ffee")


def test_a_step_that_waits_to_the_deadline_ends_the_run_and_is_named(server: Cluster) -> None:
    seconds = [0.0]
    kubeflow, pending, run_id = watcher(server, seconds)
    server.tasks = [WAITS]
    pending.check(kubeflow.look(run_id))
    seconds.append(59.9)
    pending.check(kubeflow.look(run_id))
    assert server.runs[run_id]["state"] == "RUNNING"
    seconds.append(60.0)
    with pytest.raises(KubeflowError, match=r"step pick-fruit: was taken by no node within 60 s.*describe pod party-x-123.*resume r-0"):
        pending.check(kubeflow.look(run_id))
    assert server.runs[run_id]["state"] == "CANCELED"


def test_a_step_that_ran_in_between_waits_anew(server: Cluster) -> None:
    seconds = [0.0]
    kubeflow, pending, run_id = watcher(server, seconds)
    for now, state in ((0.0, "PENDING"), (50.0, "RUNNING"), (100.0, "PENDING"), (159.0, "PENDING")):
        seconds.append(now)
        server.tasks = [{**WAITS, "state": state}]
        pending.check(kubeflow.look(run_id))
    assert server.runs[run_id]["state"] == "RUNNING"


def test_without_a_deadline_a_step_may_wait_for_ever(server: Cluster) -> None:
    seconds = [0.0]
    kubeflow, pending, run_id = watcher(server, seconds, deadline=0.0)
    server.tasks = [WAITS]
    for now in (0.0, 1e9):
        seconds.append(now)
        pending.check(kubeflow.look(run_id))
    assert server.runs[run_id]["state"] == "RUNNING"
