"""Checks of a cluster with the unmodified Kubernetes client against a small real HTTP server."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from imagewright.doctor import cluster
from imagewright.doctor.finding import State
from imagewright.stack.ports import choose_ports

from .server import Answers, serving

VERSION = {
    "major": "1",
    "minor": "33",
    "gitVersion": "v1.33.1",
    "gitCommit": "",
    "gitTreeState": "",
    "buildDate": "",
    "goVersion": "",
    "compiler": "",
    "platform": "",
}
GROUPS = {"trainer.kubeflow.org", "kueue.x-k8s.io"}


def api_server(groups: set[str] = GROUPS, allowed: bool = True) -> Answers:
    listed = [
        {
            "name": name,
            "versions": [{"groupVersion": f"{name}/v1", "version": "v1"}],
            "preferredVersion": {"groupVersion": f"{name}/v1", "version": "v1"},
        }
        for name in sorted(groups)
    ]
    return {
        "/version/": (200, VERSION),
        "/apis/": (200, {"kind": "APIGroupList", "groups": listed}),
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews": (201, {"spec": {}, "status": {"allowed": allowed}}),
    }


def kubeconfig(folder: Path, url: str) -> dict[str, str]:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    (folder / "config").write_text(yaml.safe_dump(content))
    return {"KUBECONFIG": str(folder / "config")}


def test_a_cluster_with_trainer_and_kueue_is_ok(tmp_path: Path) -> None:
    with serving(api_server()) as url:
        finding = cluster.check_kubernetes(kubeconfig(tmp_path, url))
    assert finding.state == State.ok, finding
    assert "v1.33.1" in finding.detail


def test_a_missing_operator_is_named(tmp_path: Path) -> None:
    with serving(api_server(groups={"trainer.kubeflow.org"})) as url:
        finding = cluster.check_kubernetes(kubeconfig(tmp_path, url))
    assert finding.state == State.warning
    assert "Kueue" in finding.detail


def test_a_user_who_may_not_train_is_told(tmp_path: Path) -> None:
    with serving(api_server(allowed=False)) as url:
        assert cluster.check_kubernetes(kubeconfig(tmp_path, url)).state == State.warning


@pytest.mark.parametrize("status", [401, 429, 500])
def test_an_api_server_that_refuses_is_a_failure(tmp_path: Path, status: int) -> None:
    with serving({"/version/": (status, {"reason": "no"})}) as url:
        finding = cluster.check_kubernetes(kubeconfig(tmp_path, url))
    assert finding.state == State.failed
    assert str(status) in finding.detail


def test_a_cluster_that_is_gone_or_a_kubeconfig_that_is_missing_or_damaged_is_a_failure(tmp_path: Path) -> None:
    (port,) = choose_ports(1)
    assert cluster.check_kubernetes(kubeconfig(tmp_path, f"http://127.0.0.1:{port}")).state == State.failed
    assert cluster.check_kubernetes({"KUBECONFIG": str(tmp_path / "none")}).state == State.failed
    (tmp_path / "damaged").write_text("{}")
    assert cluster.check_kubernetes({"KUBECONFIG": str(tmp_path / "damaged")}).state == State.failed


@pytest.mark.parametrize(("status", "state"), [(200, State.ok), (302, State.failed), (401, State.failed), (503, State.failed)])
def test_kubeflow_is_judged_by_its_health(status: int, state: State) -> None:
    with serving({"/apis/v2beta1/healthz": (status, {})}) as url:
        assert cluster.check_kubeflow({"KF_PIPELINES_ENDPOINT": url}).state == state


def test_kubeflow_that_is_not_set_up_is_skipped() -> None:
    assert cluster.check_kubeflow({}).state == State.skipped
