"""The cluster suite without a cluster: it refuses to run, what it would install renders, and what it makes it takes away again."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cluster.answers import EXAMPLE, VARIABLE, Answers, read_answers
from cluster.pipeline_run import submitted
from cluster.workspace import Workspace, wait_for_repository, workspace
from fixtures.kube_server import kube_server
from fixtures.kubeflow_server import kubeflow_server
from helm.charts import load, parse

from imagewright.config import Config, load_recipe
from imagewright.config.kubeflow import KubeflowConfig
from imagewright.errors import InputError
from imagewright.launch.cluster_api import ClusterError, connect
from imagewright.launch.ir import PipelineIR
from imagewright.launch.kubeflow import Kubeflow
from imagewright.launch.policy import check_manifests

ROOT = Path(__file__).resolve().parents[2]
PARTY = PipelineIR(
    {"pipelineInfo": {"name": "party"}, "root": {"dag": {"tasks": {}}}, "components": {}, "deploymentSpec": {"executors": {}}}
)


def answers() -> Answers:
    return read_answers({"KUBECONFIG": "there", VARIABLE: str(EXAMPLE)})


def test_without_a_cluster_nothing_runs_and_nothing_passes() -> None:
    environment = {**os.environ, "KUBECONFIG": "", VARIABLE: ""}
    command = [sys.executable, "-m", "pytest", "-m", "cluster", "-p", "no:cacheprovider", "tests/cluster"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2, done.stdout
    for words in ("the cluster suite did not run", "KUBECONFIG: must name the cluster", "answers.example.yaml", "no tests ran"):
        assert words in done.stdout
    assert "passed" not in done.stdout


def test_every_mistake_in_the_answers_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "answers.yaml"
    path.write_text("kubeflow_url: here\ncontrol_image: name:latest\nmistyped: 1\n")
    with pytest.raises(InputError) as caught:
        read_answers({"KUBECONFIG": "there", VARIABLE: str(path)})
    named = {problem.key for problem in caught.value.problems}
    assert {"kubeflow_url", "control_image", "mistyped", "gateway", "worker_image"} <= named


def test_what_it_installs_renders_and_passes_the_policy() -> None:
    space = Workspace("imagewright-check-c0ffee", answers())
    objects: list[dict[str, Any]] = []
    for chart, name, values in (
        ("imagewright", space.name, space.platform_values()),
        ("imagewright-serving", space.serving, space.serving_values()),
    ):
        rendered = load(chart).render(values, name=name, namespace=space.name)
        objects += [one for template, text in rendered.items() if template.endswith(".yaml") for one in parse(text)]
    assert [str(finding) for finding in check_manifests(objects)] == []
    names = {(one["kind"], one["metadata"]["name"]) for one in objects}
    config = load_recipe("debug", space.overrides())
    assert ("ClusterTrainingRuntime", config.placement.train_job.runtime) in names
    assert ("ConfigMap", config.placement.environment_config_map) in names
    assert ("HTTPRoute", f"{config.rollout.release}-route") in names
    assert ("Deployment", f"{config.rollout.release}-canary") in names
    assert ("Service", config.rollout.stable_url.removeprefix("http://").partition(".")[0]) in names
    assert space.contract()["IMAGEWRIGHT_STORE_URL"] == "s3://imagewright/"
    claim, job = space.registry()
    assert claim["metadata"]["name"] == config.placement.registry_claim
    assert {claim["metadata"]["namespace"], job["metadata"]["namespace"]} == {space.answers.kubeflow_namespace}


def test_what_it_makes_is_taken_away_even_when_a_test_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kube_server("batch") as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path)))
        server.tells_namespaces_apart = True

        def use() -> None:
            with workspace(connect(), answers()) as space:
                assert server.names("namespaces") == [space.name]
                assert server.names(f"{space.name}/secrets") == sorted(f"{space.name}-{one}" for one in ("s3", "mlflow", "api-keys"))
                assert server.names(f"{space.name}/persistentvolumeclaims") == ["training-work"]
                assert server.names("kubeflow/secrets") == [space.secret]
                assert server.names("kubeflow/configmaps") == [f"{space.name}-contract"]
                assert server.names("kubeflow/persistentvolumeclaims") == server.names("kubeflow/jobs") == [f"{space.name}-registry"]
                raise RuntimeError("a test failed")

        with pytest.raises(RuntimeError, match="a test failed"):
            use()
        # What lies in the namespace goes with it.
        assert [kind for _, kind, _ in server.objects if not kind.startswith("imagewright-check-")] == []
        deleted = [path.rsplit("/", 2)[-2:] for method, path in server.requests if method == "DELETE"]
        assert [kind for kind, _ in deleted] == ["jobs", "persistentvolumeclaims", "configmaps", "secrets", "namespaces"]


def test_a_cluster_that_refuses_in_the_middle_is_left_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kube_server() as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path)))
        server.forbidden = {("create", "persistentvolumeclaims")}
        with pytest.raises(ClusterError, match="cannot create"), workspace(replace(connect(), max_tries=1), answers()):
            raise AssertionError("never entered")
        assert server.names("namespaces") == []


def test_the_pipeline_waits_for_the_data_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = Workspace("imagewright-check-c0ffee", answers())
    _, job = space.registry()
    with kube_server("batch") as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path)))
        server.put("batch", "jobs", {**job, "status": {"active": 1}})

        def finish(seconds: float) -> None:
            server.update("batch", "jobs", job["metadata"]["name"], status={"succeeded": 1})

        wait_for_repository(replace(connect(), wait=finish), space)
        assert [method for method, _ in server.requests] == ["GET", "GET"]


@pytest.mark.parametrize("was_there", [True, False])
def test_what_a_run_leaves_on_kubeflow_is_taken_away_even_when_a_test_fails(was_there: bool) -> None:
    with kubeflow_server() as server:
        server.pipelines = {"party": ["c0ffee"]} if was_there else {}
        kubeflow = Kubeflow(KubeflowConfig(url=server.url, worker_image=answers().worker_image, experiment="check"))

        def use() -> None:
            with submitted(kubeflow, PARTY, Config(), "check"):
                raise RuntimeError("a test failed")

        with pytest.raises(RuntimeError, match="a test failed"):
            use()
        assert server.runs["r-0"]["state"] == "CANCELED"
        pipeline = [] if was_there else ["/pipelines/id-party"]
        assert server.deleted == ["/runs/r-0", "/pipelines/id-party/versions/v-check", *pipeline, "/experiments/e-1"]
