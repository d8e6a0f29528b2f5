"""Refusals, throttling and absence of an API server, with the unmodified Kubernetes client against a real HTTP server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures.kube_server import KubeServer, kube_server
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from imagewright.launch.cluster_api import ClusterApi, ClusterError, connect, own_namespace, retry_after


@pytest.fixture
def server() -> Iterator[KubeServer]:
    with kube_server() as started:
        yield started


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def cluster(server: KubeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> ClusterApi:
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path)))
    return replace(connect(), wait=pauses.append)


def look(cluster: ClusterApi) -> object:
    return cluster.call("pods", client.CoreV1Api(cluster.api).list_namespaced_pod, cluster.namespace)


def test_the_context_names_the_namespace(cluster: ClusterApi) -> None:
    assert cluster.namespace == own_namespace() == "images"


def test_throttling_is_waited_out_to_the_last_try(server: KubeServer, cluster: ClusterApi, pauses: list[float]) -> None:
    server.throttle = 7
    look(cluster)
    assert pauses == [7.0] * 7
    server.throttle = 8
    with pytest.raises(ClusterError, match=r"answered 429: slow down.*kept throttling") as caught:
        look(cluster)
    assert caught.value.status == 429


@pytest.mark.parametrize(
    ("asked", "seconds"), [("3", 3.0), ("0.5", 0.5), ("-1", 0.0), ("nan", 2.0), ("inf", 2.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 2.0)]
)
def test_whatever_is_asked_for_is_a_time_to_wait(asked: str, seconds: float) -> None:
    error = ApiException(status=429)
    error.headers = {"Retry-After": asked}
    assert retry_after(error, 2.0) == seconds


def test_an_account_without_the_right_is_told_which_one(server: KubeServer, cluster: ClusterApi) -> None:
    server.forbidden = {("list", "pods")}
    with pytest.raises(ClusterError, match=r'403: pods is forbidden.*cannot list resource "pods".*launcher account') as caught:
        look(cluster)
    assert caught.value.status == 403


def test_a_token_that_is_not_accepted_is_not_shown(server: KubeServer, cluster: ClusterApi) -> None:
    server.token = "renewed"
    with pytest.raises(ClusterError, match="the token is not accepted") as caught:
        look(cluster)
    assert caught.value.status == 401
    assert "renewed" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        ("exceeded quota: gpus", "has no quota for this"),
        ('violates PodSecurity "restricted:latest"', "admits restricted pods only"),
        ("not today", "launcher account"),
    ],
)
def test_a_refused_object_says_what_to_change(server: KubeServer, cluster: ClusterApi, words: str, fix: str) -> None:
    server.refuse_creation = words
    with pytest.raises(ClusterError, match=fix):
        cluster.call("pod", client.CoreV1Api(cluster.api).create_namespaced_pod, "images", {"metadata": {"name": "one"}})


def test_what_a_missing_object_means_is_left_to_the_caller(cluster: ClusterApi) -> None:
    with pytest.raises(ApiException):
        cluster.call("pod", client.CoreV1Api(cluster.api).read_namespaced_pod, "none", "images")


def test_a_server_that_is_away_is_tried_again_and_then_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    with kube_server() as started:
        monkeypatch.setenv("KUBECONFIG", str(started.kubeconfig(tmp_path)))
    cluster = replace(connect(), wait=pauses.append, max_tries=3)
    with pytest.raises(ClusterError, match="does not answer: NewConnectionError"):
        look(cluster)
    assert pauses == [1.0, 2.0]


@pytest.mark.parametrize("content", ["{", "[]", "", "\x00", "current-context: x", "contexts: 3\ncurrent-context: x"])
def test_a_damaged_kubeconfig_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    (tmp_path / "config").write_text(content)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(ClusterError, match="cluster: none is configured"):
        connect()
    assert own_namespace() == "default"


def test_a_server_that_speaks_something_else_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kube_server() as started:
        path = started.kubeconfig(tmp_path)
        path.write_text(path.read_text().replace("http://", "https://"))
        monkeypatch.setenv("KUBECONFIG", str(path))
        with pytest.raises(ClusterError, match="does not answer: SSLError"):
            look(replace(connect(), wait=lambda _: None, max_tries=2))
