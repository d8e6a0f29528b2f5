"""The unmodified Kubeflow API client against a small real HTTP server: what is sent, and what a person reads when it is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import kfp_server_api
import pytest
from fixtures.kubeflow_server import Cluster, kubeflow_server

from imagewright.config import Config, load_recipe
from imagewright.config.kubeflow import KubeflowConfig
from imagewright.config.packed import unpack_config
from imagewright.launch.ir import PipelineIR
from imagewright.launch.kubeflow import Kubeflow, KubeflowError
from imagewright.launch.schedule import Concurrency

IMAGE = "registry.example/imagewright-worker@sha256:" + "a" * 64
PIPELINE = PipelineIR(
    {
        "pipelineInfo": {"name": "party"},
        "root": {"dag": {"tasks": {}}},
        "components": {},
        "deploymentSpec": {
            "executors": {
                "exec-a": {"container": {"image": "imagewright-worker"}},
                "exec-b": {"container": {"image": "other"}},
            }
        },
    }
)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with kubeflow_server() as started:
        yield started


def client(cluster: Cluster, **settings: object) -> Kubeflow:
    return Kubeflow(KubeflowConfig(url=cluster.url, worker_image=IMAGE, **settings))  # type: ignore[arg-type]


def test_a_run_is_created_with_its_version_image_and_configuration(cluster: Cluster) -> None:
    run_id = client(cluster, service_account="runner").submit(PIPELINE, Config(name="demo"), "monday", "c0ffee")
    run = cluster.runs[run_id]
    assert (run["display_name"], run["service_account"]) == ("monday", "runner")
    assert run["pipeline_version_reference"] == {"pipeline_id": "id-party", "pipeline_version_id": "v-c0ffee"}
    assert json.loads(run["runtime_config"]["parameters"]["config"])["name"] == "demo"
    assert IMAGE in cluster.uploads[-1]
    assert "image: imagewright-worker" not in cluster.uploads[-1]


def test_the_same_commit_is_uploaded_once(cluster: Cluster) -> None:
    for _ in range(2):
        client(cluster).submit(PIPELINE, Config(), "monday", "c0ffee")
    assert cluster.pipelines == {"party": ["c0ffee"]}
    assert cluster.experiments == ["imagewright"]
    client(cluster).submit(PIPELINE, Config(), "monday", "decade")
    assert cluster.pipelines == {"party": ["c0ffee", "decade"]}


def test_a_run_is_watched_retried_and_ended(cluster: Cluster) -> None:
    kubeflow = client(cluster)
    run_id = kubeflow.submit(PIPELINE, Config(), "monday", "c0ffee")
    state = kubeflow.look(run_id)
    assert (state.state, state.is_finished, state.tasks) == ("RUNNING", False, (("pick-fruit", "SUCCEEDED"),))
    kubeflow.terminate(run_id)
    assert kubeflow.look(run_id).is_finished
    kubeflow.retry(run_id)
    assert not kubeflow.look(run_id).is_finished


def test_a_schedule_becomes_a_recurring_run(cluster: Cluster) -> None:
    kubeflow = client(cluster)
    for policy in (Concurrency.queue, Concurrency.refuse):
        assert kubeflow.schedule(PIPELINE, Config(), "nightly", "c0ffee", "0 3 * * *", policy) == "rr-1"
    assert [one["no_catchup"] for one in cluster.recurring] == [False, True]
    first = cluster.recurring[0]
    assert (first["trigger"], first["max_concurrency"], first["mode"]) == ({"cron_schedule": {"cron": "0 0 3 * * *"}}, "1", "ENABLE")
    with pytest.raises(KubeflowError, match="cannot be replace"):
        kubeflow.schedule(PIPELINE, Config(), "nightly", "c0ffee", "0 3 * * *", Concurrency.replace)


def test_a_rotated_token_is_read_again(cluster: Cluster, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    cluster.token = "first"
    kubeflow = client(cluster, token_file=str(token))
    kubeflow.ensure_experiment()
    cluster.token = "second"
    with pytest.raises(KubeflowError, match="answered 401") as caught:
        kubeflow.ensure_experiment()
    assert "first" not in str(caught.value)
    token.write_text("second")
    assert kubeflow.ensure_experiment() == "e-1"


def test_what_goes_wrong_is_said_with_what_to_do(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(KubeflowError, match="no such run"):
        client(cluster).look("r-99")
    cluster.broken = 500
    with pytest.raises(KubeflowError, match="the database is away"):
        client(cluster).submit(PIPELINE, Config(), "monday", "c0ffee")
    with pytest.raises(KubeflowError, match="does not answer"):
        Kubeflow(KubeflowConfig(url="http://127.0.0.1:9", worker_image=IMAGE), lambda _: None).look("r-1")
    with pytest.raises(KubeflowError, match=r"kubeflow\.url: is required"):
        Kubeflow(KubeflowConfig())
    with pytest.raises(KubeflowError, match="cannot be read"):
        client(cluster, token_file=str(tmp_path / "none"))


def test_a_run_in_slices_carries_its_configuration_packed(cluster: Cluster) -> None:
    config = load_recipe("debug", ["placement.score_slices=2"])
    client(cluster).submit(PIPELINE, config, "monday", "c0ffee")
    sent = cluster.runs["r-0"]["runtime_config"]["parameters"]["config"]
    assert unpack_config(sent) == config.model_dump_json() != sent


def test_a_watched_run_outlives_a_restart_of_the_server(cluster: Cluster) -> None:
    pauses: list[float] = []
    kubeflow = Kubeflow(client(cluster).config, pauses.append)
    run_id = kubeflow.submit(PIPELINE, Config(), "monday", "c0ffee")
    cluster.passing = [503, 429, 502, 504]
    assert kubeflow.look(run_id).run_id == run_id
    assert pauses == [1.0, 7.0, 4.0, 8.0]
    cluster.passing = [503] * 5
    with pytest.raises(KubeflowError, match="answered 503: not now"):
        kubeflow.look(run_id)


def test_a_run_is_created_again_only_when_the_server_certainly_did_not(cluster: Cluster) -> None:
    pauses: list[float] = []
    kubeflow = Kubeflow(client(cluster).config, pauses.append)
    cluster.passing = [429]
    kubeflow.retry(kubeflow.submit(PIPELINE, Config(), "monday", "c0ffee"))
    assert pauses == [7.0]
    cluster.passing = [503]
    with pytest.raises(KubeflowError, match="answered 503"):
        kubeflow.terminate("r-0")
    assert len(cluster.runs) == 1


@pytest.mark.parametrize(("status", "fix"), [(401, "valid token"), (403, "needs the right"), (429, "try again later")])
def test_a_refusal_names_its_status_and_what_to_do(cluster: Cluster, status: int, fix: str) -> None:
    cluster.broken = status
    with pytest.raises(KubeflowError, match=fix) as caught:
        Kubeflow(client(cluster).config, lambda _: None).look("r-1")
    assert caught.value.status == status


def test_a_server_without_an_image_by_digest_is_refused() -> None:
    with pytest.raises(ValueError, match="worker_image must be set"):
        KubeflowConfig(url="http://localhost:8888")
    with pytest.raises(ValueError, match="pattern"):
        KubeflowConfig(url="http://localhost:8888", worker_image="registry.example/imagewright-worker:latest")


def test_runs_and_schedules_are_tracked_where_the_server_has_the_mlflow_plugin(cluster: Cluster) -> None:
    kubeflow = client(cluster)
    run_id = kubeflow.submit(PIPELINE, Config(), "monday", "c0ffee")
    assert cluster.runs[run_id]["plugins_input"] == {"mlflow": {"experiment_name": "imagewright"}}
    assert kubeflow.look(run_id).tracking == "http://mlflow.example/#/experiments/1/runs/2"
    kubeflow.schedule(PIPELINE, Config(), "nightly", "c0ffee", "0 3 * * *", Concurrency.queue)
    assert cluster.recurring[0]["plugins_input"] == {"mlflow": {"experiment_name": "imagewright"}}
    cluster.mlflow_away = "no route to host"
    assert kubeflow.look(kubeflow.submit(PIPELINE, Config(), "tuesday", "c0ffee")).tracking == "not tracked: no route to host"


def test_a_server_that_predates_plugins_runs_untracked(cluster: Cluster) -> None:
    cluster.knows_plugins = False
    kubeflow = client(cluster)
    run_id = kubeflow.submit(PIPELINE, Config(), "monday", "c0ffee")
    assert "plugins_input" not in cluster.runs[run_id]
    assert kubeflow.look(run_id).tracking == ""
    assert [path for _, path in cluster.requests].count("/runs") == 2
    cluster.passing = [400] * 9  # any other refusal is not tried again without the plugin
    with pytest.raises(KubeflowError, match="answered 400: not now"):
        kubeflow.create(kubeflow.runs.run_service_create_run, kfp_server_api.V2beta1Run(display_name="tuesday"))
    assert len(cluster.passing) == 8


def test_a_run_can_opt_out_of_the_mlflow_plugin(cluster: Cluster) -> None:
    kubeflow = client(cluster, mlflow_experiment="")
    run_id = kubeflow.submit(PIPELINE, Config(), "monday", "c0ffee")
    assert cluster.runs[run_id]["plugins_input"] == {"mlflow": {"disabled": True}}
    assert kubeflow.look(run_id).tracking == ""
