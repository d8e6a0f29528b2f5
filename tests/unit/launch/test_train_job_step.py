"""A training step and its TrainJob, with the unmodified Kubernetes client against a real HTTP server that a test plays the cluster on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures.kube_server import KubeServer, Tree, kube_server
from fixtures.train_request import REQUEST, SETTINGS, placement

from imagewright.launch.cluster_api import ClusterApi, ClusterError, connect
from imagewright.launch.train_job import build_train_job
from imagewright.launch.train_job_client import TrainJobs
from imagewright.launch.train_job_step import TrainJobError, TrainJobStep
from imagewright.training.interruption import TrainingInterrupted

TRAINER, KUEUE = "trainer.kubeflow.org", "kueue.x-k8s.io"
NAME = REQUEST.name


@pytest.fixture
def server() -> Iterator[KubeServer]:
    with kube_server(TRAINER, KUEUE) as started:
        yield started


class Cluster:
    """The step under test and the cluster's part: `on(line start, action)` acts when the step says that line."""

    def __init__(self, server: KubeServer, folder: Path, monkeypatch: pytest.MonkeyPatch, **train_job: Any) -> None:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(folder)))
        self.server, self.said, self.pauses, self.seconds = server, [], [], 0.0
        self.actions: list[tuple[str, Callable[[], object]]] = []
        self.jobs = TrainJobs(ClusterApi(connect().api, "images", self.pauses.append))
        settings = placement(train_job={**SETTINGS["train_job"], **train_job})
        self.step = TrainJobStep(self.jobs, REQUEST, settings, say=self.say, clock=self.clock, interval_seconds=1)

    def clock(self) -> float:
        self.seconds += 10.0
        return self.seconds

    def on(self, words: str, action: Callable[[], object]) -> None:
        self.actions.append((words, action))

    def say(self, line: str) -> None:
        self.said.append(line)
        due = [one for one in self.actions if one[0] in line]
        self.actions = [one for one in self.actions if one[0] not in line]
        for _, action in due:
            action()

    def pods(self, phase: str, name: str = NAME, num_nodes: int = 2, **status: Any) -> None:
        for node in range(num_nodes):
            labels = {"jobset.sigs.k8s.io/jobset-name": name, "batch.kubernetes.io/job-completion-index": str(node)}
            pod: Tree = {"metadata": {"name": f"{name}-node-{node}", "labels": labels}, "spec": {"containers": [{"name": "node"}]}}
            self.server.put("", "pods", {**pod, "status": {"phase": phase, **status}})

    def run_pods(self, name: str = NAME) -> None:
        self.pods("Running", name)
        self.server.update(TRAINER, "trainjobs", name, status={"jobsStatus": []})

    def end(self, condition: str, message: str = "", name: str = NAME) -> None:
        found = {"type": condition, "status": "True", "message": message, "reason": "Test", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        self.server.update(TRAINER, "trainjobs", name, status={"conditions": [found]})


@pytest.fixture
def cluster(server: KubeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(server, tmp_path, monkeypatch)


def test_nodes_start_print_and_end(cluster: Cluster) -> None:
    cluster.on("created", cluster.run_pods)
    cluster.server.logs[f"{NAME}-node-0"] = ["2026-01-01T00:00:01Z step 1 loss 0.9"]

    def finish() -> None:
        cluster.server.logs[f"{NAME}-node-0"].append("2026-01-01T00:00:02Z step 2 loss 0.8")
        cluster.end("Complete")

    cluster.on("2 nodes run", finish)
    cluster.step.run()
    assert cluster.said[0] == f"{NAME}: created, 2 nodes"
    assert [line for line in cluster.said if line.startswith("step")] == ["step 1 loss 0.9", "step 2 loss 0.8"]


def test_an_earlier_launchers_train_job_is_watched_not_made_again(cluster: Cluster) -> None:
    cluster.jobs.create(build_train_job(REQUEST, placement()))
    cluster.run_pods()
    cluster.on("watching it", lambda: cluster.end("Complete"))
    cluster.step.run()
    assert sum(request == ("POST", f"/apis/{TRAINER}/v1alpha1/namespaces/images/trainjobs") for request in cluster.server.requests) == 2
    assert cluster.server.names("trainjobs") == [NAME]


def test_a_train_job_that_ended_before_is_replaced_by_the_next_attempt(cluster: Cluster) -> None:
    cluster.jobs.create(build_train_job(REQUEST, placement()))
    cluster.end("Failed", "an old failure")
    following = NAME[:-1] + "1"
    cluster.on(f"{following}: created", lambda: cluster.end("Complete", name=following))
    cluster.step.run()
    assert cluster.server.names("trainjobs") == [following]


def test_other_work_under_the_name_is_left_alone(cluster: Cluster) -> None:
    other = build_train_job(REQUEST, placement())
    other["metadata"]["labels"]["imagewright.io/action-key"] = "other"
    cluster.jobs.create(other)
    with pytest.raises(ClusterError, match="exists and does other work"):
        cluster.step.run()


def test_a_preempted_run_goes_on_under_a_new_name(cluster: Cluster) -> None:
    following = NAME[:-1] + "1"
    cluster.on("created", cluster.run_pods)

    def preempt() -> None:
        disrupted = [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]
        ended = [{"name": "node", "image": "", "imageID": "", "ready": False, "restartCount": 0, "state": {"terminated": {"exitCode": 1}}}]
        cluster.pods("Failed", conditions=disrupted, containerStatuses=ended)
        cluster.end("Failed", "a node was lost")

    cluster.on("2 nodes run", preempt)
    cluster.on(f"{following}: created", lambda: cluster.end("Complete", name=following))
    cluster.step.run()
    assert any("goes on from its last checkpoint" in line for line in cluster.said)
    assert cluster.server.names("trainjobs") == [following]


def test_a_run_deleted_by_somebody_goes_on(cluster: Cluster) -> None:
    following = NAME[:-1] + "1"
    cluster.on(f"{NAME}: created", lambda: cluster.server.remove(TRAINER, "trainjobs", NAME))
    cluster.on(f"{following}: created", lambda: cluster.end("Complete", name=following))
    cluster.step.run()


@pytest.mark.parametrize("allowed", [0, 1])
def test_preemption_without_end_is_given_up(server: KubeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: int) -> None:
    cluster = Cluster(server, tmp_path, monkeypatch, max_resumes=allowed)
    server.after_create = lambda _, made: cluster.end("Failed", "preempted", made["metadata"]["name"])
    with pytest.raises(TrainJobError, match=f"was preempted {allowed + 1} times"):
        cluster.step.run()


def test_a_failure_of_the_training_names_node_code_and_log(cluster: Cluster) -> None:
    cluster.on("created", cluster.run_pods)

    def fail() -> None:
        ended = [{"name": "node", "image": "", "imageID": "", "ready": False, "restartCount": 0}]
        ended[0]["state"] = {"terminated": {"exitCode": 1, "reason": "Error"}}
        cluster.pods("Failed", containerStatuses=ended)
        cluster.server.logs[f"{NAME}-node-0"] = ["2026-01-01T00:00:01Z CUDA out of memory"]
        cluster.end("Failed", "jobset failed")

    cluster.on("2 nodes run", fail)
    with pytest.raises(TrainJobError, match=r"(?s)jobset failed.*node-0 ended with 1 Error.*CUDA out of memory"):
        cluster.step.run()


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


def test_a_run_suspended_again_gets_its_deadline_anew(server: KubeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(server, tmp_path, monkeypatch, schedule_deadline_seconds=1e6)
    cluster.on("created", cluster.run_pods)
    cluster.on("2 nodes run", lambda: cluster.end("Suspended", "preempted to accommodate a higher priority"))
    cluster.on("higher priority", cluster.run_pods)
    cluster.on("2 nodes run", lambda: None)
    cluster.on("waiting", lambda: cluster.on("2 nodes run", lambda: cluster.end("Complete")))
    cluster.step.run()


def test_a_step_told_to_stop_ends_its_train_job(cluster: Cluster) -> None:
    cluster.on("created", cluster.run_pods)
    cluster.on("2 nodes run", lambda: cluster.step.stop.__setattr__("requested", True))
    with pytest.raises(TrainingInterrupted):
        cluster.step.run()
    assert cluster.server.names("trainjobs") == []


def test_dropped_and_expired_watches_lose_nothing(cluster: Cluster) -> None:
    cluster.server.drop_watches = 3

    def expire() -> None:
        cluster.server.compacted = cluster.server.version + 1
        cluster.run_pods()
        cluster.server.compacted = cluster.server.version - 1

    cluster.on("created", expire)
    cluster.on("2 nodes run", lambda: cluster.end("Complete"))
    cluster.step.run()
    versions = cluster.server.watch_versions
    assert versions == sorted(versions)


def test_an_expired_version_starts_from_the_object(cluster: Cluster) -> None:
    cluster.jobs.create(build_train_job(REQUEST, placement()))
    states = cluster.jobs.states(NAME, 1)
    assert next(states).phase == "waiting"
    cluster.server.compacted = cluster.server.version + 1
    cluster.end("Complete")
    assert next(states).phase == "complete"


def test_throttling_is_waited_out_as_long_as_the_server_says(cluster: Cluster) -> None:
    cluster.server.throttle = 3
    cluster.on("created", lambda: cluster.end("Complete"))
    cluster.step.run()
    assert cluster.pauses[:3] == [7.0, 7.0, 7.0]


def test_a_cluster_without_the_trainer_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kube_server() as bare, pytest.raises(ClusterError, match=r"kind this cluster does not know.*install Kubeflow Trainer"):
        Cluster(bare, tmp_path, monkeypatch).step.run()


def test_a_refused_token_and_a_full_namespace_are_told_apart(cluster: Cluster) -> None:
    cluster.server.refuse_creation = "exceeded quota: gpus, requested: requests.nvidia.com/gpu=16, used: 0, limited: 8"
    with pytest.raises(ClusterError, match=r"exceeded quota.*has no quota for this"):
        cluster.step.run()
    cluster.server.token = "renewed"
    with pytest.raises(ClusterError, match="the token is not accepted") as caught:
        cluster.step.run()
    assert "valid" not in str(caught.value).replace("invalid", "")


def test_a_server_that_is_away_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kube_server(TRAINER) as started:
        cluster = Cluster(started, tmp_path, monkeypatch)
    with pytest.raises(ClusterError, match=r"cluster: does not answer"):
        cluster.step.run()


def test_no_cluster_at_all_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(ClusterError, match="none is configured"):
        connect()
