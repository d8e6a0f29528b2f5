"""A training step and its TrainJob, with the unmodified Kubernetes client against a real HTTP server that a test plays the cluster on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.kube_server import KubeServer, kube_server
from fixtures.train_cluster import KUEUE, NAME, TRAINER, Cluster
from fixtures.train_request import REQUEST, placement

from imagewright.launch.cluster_api import ClusterError, connect
from imagewright.launch.train_job import build_train_job
from imagewright.launch.train_job_step import TrainJobError, pause
from imagewright.training.interruption import StopRequest, TrainingInterrupted


@pytest.fixture
def server() -> Iterator[KubeServer]:
    with kube_server(TRAINER, KUEUE) as started:
        yield started


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


def test_a_log_we_may_not_read_is_said_once_and_training_goes_on(cluster: Cluster) -> None:
    cluster.server.forbidden = {("get", "pods/log")}
    cluster.on("created", cluster.run_pods)
    cluster.on("2 nodes run", lambda: cluster.end("Complete"))
    cluster.step.run()
    assert sum("cannot be read, training goes on without it" in line for line in cluster.said) == 1


def test_nodes_that_went_away_with_their_pods_are_a_preemption(cluster: Cluster) -> None:
    following = NAME[:-1] + "1"
    cluster.on("created", cluster.run_pods)

    def lose() -> None:
        for node in range(2):
            cluster.server.remove("", "pods", f"{NAME}-node-{node}")
        cluster.end("Failed", "jobset failed")

    cluster.on("2 nodes run", lose)
    cluster.on(f"{following}: created", lambda: cluster.end("Complete", name=following))
    cluster.step.run()
    assert cluster.server.names("trainjobs") == [following]


def test_a_node_that_ran_out_of_memory_is_a_failure_not_a_preemption(cluster: Cluster) -> None:
    cluster.on("created", cluster.run_pods)

    def fail() -> None:
        state = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
        ended = [{"name": "node", "image": "", "imageID": "", "ready": False, "restartCount": 0, "state": state}]
        cluster.pods("Failed", containerStatuses=ended)
        cluster.end("Failed", "jobset failed")

    cluster.on("2 nodes run", fail)
    with pytest.raises(TrainJobError, match="ended with 137 OOMKilled"):
        cluster.step.run()


@pytest.mark.parametrize(("status", "pause_seconds"), [(410, []), (429, [7.0]), (503, [1.0])])
def test_a_watch_that_is_refused_for_now_is_begun_again(cluster: Cluster, status: int, pause_seconds: list[float]) -> None:
    cluster.on("created", cluster.run_pods)

    def refuse() -> None:
        cluster.server.refused_watches = [(status, "not now")]
        cluster.end("Complete")

    cluster.on("2 nodes run", refuse)
    cluster.step.run()
    assert cluster.server.refused_watches == []
    assert cluster.pauses == pause_seconds


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "the token is not accepted"), (403, "the account may not do this"), (404, "kind this cluster does not know")],
)
def test_a_watch_that_is_refused_for_good_ends_the_step(cluster: Cluster, status: int, message: str) -> None:
    cluster.on("created", cluster.run_pods)
    cluster.server.refused_watches = [(status, "no")] * 20
    with pytest.raises(ClusterError, match=message):
        cluster.step.run()
    assert cluster.server.names("trainjobs") == [NAME]


def test_an_account_that_may_not_launch_is_told_whose_role_it_needs(cluster: Cluster) -> None:
    cluster.server.forbidden = {("create", "trainjobs")}
    with pytest.raises(ClusterError, match=r'cannot create resource "trainjobs".*launcher account'):
        cluster.step.run()


def test_a_trainer_that_is_removed_meanwhile_is_named(cluster: Cluster) -> None:
    cluster.on("created", lambda: cluster.server.groups.discard(TRAINER))
    with pytest.raises(ClusterError, match="kind this cluster does not know"):
        cluster.step.run()


def test_a_pause_ends_soon_after_the_step_is_told_to_stop() -> None:
    stop = StopRequest()
    stop.requested = True
    pause(stop, 3600.0)


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
