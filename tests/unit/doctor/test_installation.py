"""What a cluster lacks is said before anything is installed: the unmodified Kubernetes client against a small real HTTP server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from fixtures.kube_server import KubeServer, kube_server
from helm.charts import case_values
from typer.testing import CliRunner

from imagewright.cli.doctor import doctor
from imagewright.doctor.operators import OPERATORS

app = typer.Typer()
app.command()(doctor)
REQUIRED = [one for one in OPERATORS if not one.needed_by]


def command(*arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    result = CliRunner().invoke(app, ["--cluster", "--namespace", "images", "--json", *arguments], catch_exceptions=False)
    return result.exit_code, {line["name"]: line for line in map(json.loads, result.output.splitlines())}


def fill(server: KubeServer) -> None:
    """A cluster on which everything is installed."""
    server.served = {one.group: one.version for one in OPERATORS}
    for operator in OPERATORS:
        if operator.controller is not None:
            server.put("apps", "deployments", deployment(operator.controller[1], 1))
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    server.put("", "namespaces", {"metadata": {"name": "images", "labels": labels}})
    secret("imagewright-s3", server, "access-key-id", "secret-access-key")
    secret("imagewright-mlflow", server, "password")
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    server.put("storage.k8s.io", "storageclasses", {"metadata": {"name": "disk", "annotations": default}, "provisioner": "disk"})
    server.put("", "nodes", {"metadata": {"name": "gpu-0"}, "status": {"allocatable": {"nvidia.com/gpu": "8"}}})
    server.put("", "nodes", {"metadata": {"name": "cpu-0"}, "status": {"allocatable": {"cpu": "8"}}})
    active = {"status": {"conditions": [{"type": "Active", "status": "True", "message": "Can submit"}]}}
    server.put("kueue.x-k8s.io", "localqueues", {"metadata": {"name": "training"}, **active})


def deployment(name: str, available: int) -> dict[str, Any]:
    spec = {"selector": {}, "template": {}}
    return {"metadata": {"name": name}, "spec": spec, "status": {"availableReplicas": available}}


def secret(name: str, server: KubeServer, *keys: str) -> None:
    server.put("", "secrets", {"metadata": {"name": name}, "data": dict.fromkeys(keys, "aGlkZGVu")})


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeServer]:
    with kube_server("apps", "storage.k8s.io", *(one.group for one in OPERATORS)) as started:
        monkeypatch.setenv("KUBECONFIG", str(started.kubeconfig(tmp_path)))
        fill(started)
        yield started


@pytest.fixture
def values(tmp_path: Path) -> Path:
    path = tmp_path / "values.yaml"
    path.write_text(json.dumps(case_values("imagewright", "training")))
    return path


def test_a_complete_cluster_passes_and_nothing_is_written(server: KubeServer, values: Path) -> None:
    code, found = command("--values", str(values))
    assert {name: one for name, one in found.items() if one["state"] != "ok"} == {}
    assert code == 0
    assert found["accelerators"]["detail"] == "8 on 1 of 2 nodes"
    assert {path.rsplit("/", 1)[1] for method, path in server.requests if method != "GET"} == {"selfsubjectaccessreviews"}


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda one: one.name)
def test_an_operator_that_is_not_installed_is_named_with_what_to_apply(server: KubeServer, operator: Any) -> None:
    server.groups.discard(operator.group)
    code, found = command()
    assert code == (0 if operator.needed_by else 1)
    assert found[operator.name]["state"] == ("skipped" if operator.needed_by else "failed")
    assert found[operator.name]["fix"] == operator.fix


@pytest.mark.parametrize("operator", REQUIRED, ids=lambda one: one.name)
def test_an_operator_of_another_version_or_without_a_pod_is_a_failure(server: KubeServer, operator: Any) -> None:
    name = operator.controller[1]
    server.put("apps", "deployments", deployment(name, 0))
    assert "no pod that is ready" in command()[1][operator.name]["detail"]
    server.remove("apps", "deployments", name)
    assert "no deployment" in command()[1][operator.name]["detail"]
    server.served[operator.group] = "v9"
    assert f"in v9, not in {operator.version}" in command()[1][operator.name]["detail"]


@pytest.mark.parametrize(("minor", "state"), [("28", "warning"), ("29", "ok"), ("29+", "ok")])
def test_a_server_is_judged_at_its_oldest_version(server: KubeServer, minor: str, state: str) -> None:
    server.minor = minor
    assert command()[1]["server"]["state"] == state


def test_a_missing_secret_and_a_missing_key_are_told_apart(server: KubeServer, values: Path) -> None:
    server.remove("", "secrets", "imagewright-mlflow")
    secret("imagewright-s3", server, "access-key-id")
    code, found = command("--values", str(values))
    assert code == 1
    assert found["secrets"]["detail"] == "imagewright-mlflow does not exist; imagewright-s3 lacks secret-access-key"
    assert "aGlkZGVu" not in json.dumps(found)


def test_a_namespace_that_is_missing_or_open_is_named(server: KubeServer) -> None:
    server.put("", "namespaces", {"metadata": {"name": "images"}})
    assert command()[1]["namespace"]["state"] == "warning"
    server.remove("", "namespaces", "images")
    code, found = command()
    assert (code, found["namespace"]["detail"]) == (1, "images does not exist")


def test_a_queue_that_is_stopped_says_why(server: KubeServer, values: Path) -> None:
    stopped = [{"type": "Active", "status": "False", "message": "ClusterQueue is stopped"}]
    server.put("kueue.x-k8s.io", "localqueues", {"metadata": {"name": "training"}, "status": {"conditions": stopped}})
    assert "ClusterQueue is stopped" in command("--values", str(values))[1]["queue"]["detail"]
    server.remove("kueue.x-k8s.io", "localqueues", "training")
    assert command("--values", str(values))[1]["queue"]["state"] == "warning"


def test_a_storage_class_that_is_not_there_is_named(server: KubeServer, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("registry: {volume: {className: shared}}")
    assert command("--values", str(tmp_path / "own.yaml"))[1]["storage"]["detail"] == "no storage class shared"


def test_pods_that_wait_are_named_with_the_reason(server: KubeServer) -> None:
    unscheduled = [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available"}]
    spec = {"containers": [{"name": "one"}]}
    server.put("", "pods", {"metadata": {"name": "web"}, "spec": spec, "status": {"phase": "Pending", "conditions": unscheduled}})
    code, found = command()
    assert (code, found["pods"]["detail"]) == (1, "web: 0/2 nodes are available")


def test_an_account_that_may_not_look_or_create_is_told(server: KubeServer, values: Path) -> None:
    server.forbidden = {("get", "secrets"), ("list", "nodes"), ("get", "deployments"), ("create", "deployments")}
    code, found = command("--values", str(values))
    assert code == 0
    assert found["secrets"]["state"] == found["accelerators"]["state"] == "warning"
    assert "may not look" in found["secrets"]["detail"]
    assert found["permissions"]["detail"] == "this account may not create deployments"
    assert found["trainer"]["state"] == "ok"


def test_a_token_that_is_not_accepted_ends_the_check(server: KubeServer) -> None:
    server.token = "renewed"
    code, found = command()
    assert (code, list(found)) == (1, ["server"])
    assert "token is not accepted" in found["server"]["fix"]


@pytest.mark.parametrize("content", ["[1]", "{", None])
def test_a_value_file_that_is_none_is_refused(server: KubeServer, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "own.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match="--values"):
        command("--values", str(path))


def test_without_a_cluster_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(ValueError, match="none is configured"):
        command()
