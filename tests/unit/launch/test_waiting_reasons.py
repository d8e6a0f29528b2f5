"""A run that never starts ends with every reason there is: a real HTTP server that a test plays the cluster on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fixtures.kube_server import KubeServer, kube_server
from fixtures.train_cluster import KUEUE, NAME, TRAINER, Cluster

from imagewright.launch.train_job_step import TrainJobError


@pytest.fixture
def server() -> Iterator[KubeServer]:
    with kube_server(TRAINER, KUEUE) as started:
        yield started


def deadline_reason(server: KubeServer, folder: Path, monkeypatch: pytest.MonkeyPatch, happens: Callable[[Cluster], object]) -> str:
    """What a run that never starts ends with."""
    cluster = Cluster(server, folder, monkeypatch, schedule_deadline_seconds=30.0)
    cluster.on("created", lambda: happens(cluster))
    with pytest.raises(TrainJobError, match="did not run within 30 s") as caught:
        cluster.step.run()
    assert server.names("trainjobs") == []
    return str(caught.value)


def warn(server: KubeServer, name: str, reason: str, message: str, kind: str = "Warning") -> None:
    about = {"name": name, "kind": "Job"}
    metadata = {"name": f"{name}.{reason}", "namespace": "images"}
    server.put("", "events", {"metadata": metadata, "involvedObject": about, "type": kind, "reason": reason, "message": message})


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("FailedCreate", "pods is forbidden: exceeded quota: compute, requested: limits.memory=128Gi"),
        ("FailedCreate", 'pods is forbidden: violates PodSecurity "restricted:latest"'),
        ("FailedMount", 'MountVolume.SetUp failed for volume "registry": secret "imagewright-git" not found'),
    ],
)
def test_what_only_an_event_says_is_said(
    server: KubeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str, message: str
) -> None:
    def happens(_: Cluster) -> None:
        warn(server, f"{NAME}-node-0", reason, message)
        warn(server, f"{NAME}-node-0", "Scheduled", "fine", "Normal")
        warn(server, f"{NAME}9-node-0", "FailedCreate", "of another run")

    ended = deadline_reason(server, tmp_path, monkeypatch, happens)
    assert f"{reason}: {message}" in ended
    assert "fine" not in ended
    assert "of another run" not in ended


def test_a_queue_that_is_not_there_is_said(server: KubeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def happens(_: Cluster) -> None:
        inadmissible = {"type": "QuotaReserved", "status": "False", "message": "LocalQueue training doesn't exist"}
        owned = {"name": "wl", "ownerReferences": [{"kind": "TrainJob", "name": NAME}]}
        server.put(KUEUE, "workloads", {"metadata": owned, "status": {"conditions": [inadmissible]}})

    assert "Kueue: LocalQueue training doesn't exist" in deadline_reason(server, tmp_path, monkeypatch, happens)


def test_a_trainer_that_does_nothing_is_suspected(server: KubeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "is the Trainer's controller running?" in deadline_reason(server, tmp_path, monkeypatch, lambda _: None)


def test_an_image_that_cannot_be_pulled_is_said(server: KubeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
    waiting = [{"name": "node", "image": "", "imageID": "", "ready": False, "restartCount": 0, "state": state}]

    ended = deadline_reason(server, tmp_path, monkeypatch, lambda cluster: cluster.pods("Pending", containerStatuses=waiting))
    assert "ImagePullBackOff Back-off pulling image" in ended


def test_reasons_we_may_not_ask_for_are_named_and_stop_nothing(server: KubeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.forbidden = {("list", "workloads"), ("list", "events")}
    ended = deadline_reason(server, tmp_path, monkeypatch, lambda cluster: cluster.pods("Pending"))
    assert "Kueue: the cluster answered 403" in ended
    assert "events: the cluster answered 403" in ended


def test_nodes_that_never_schedule_end_with_every_reason(server: KubeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(server, tmp_path, monkeypatch, schedule_deadline_seconds=30.0)
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu"
    no_secret = {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "s3" not found'}}

    def pend() -> None:
        unschedulable = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]
        waiting = [{"name": "node", "image": "", "imageID": "", "ready": False, "restartCount": 0, "state": no_secret}]
        cluster.pods("Pending", conditions=unschedulable, containerStatuses=waiting)
        reserved = {"type": "QuotaReserved", "status": "False", "message": "insufficient unused quota for nvidia.com/gpu"}
        owned = {"name": "wl", "ownerReferences": [{"kind": "TrainJob", "name": NAME}]}
        server.put(KUEUE, "workloads", {"metadata": owned, "status": {"conditions": [reserved]}})

    cluster.on("created", pend)
    with pytest.raises(TrainJobError, match="did not run within 30 s") as caught:
        cluster.step.run()
    for reason in (message, "Kueue: insufficient unused quota", 'secret "s3" not found'):
        assert reason in str(caught.value)
    assert server.names("trainjobs") == []
