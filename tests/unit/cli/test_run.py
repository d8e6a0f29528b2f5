"""Runs on Kubeflow from the command line: ended, continued and watched to the end, against a real HTTP server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import typer
from fixtures.kubeflow_server import Cluster, kubeflow_server
from typer.testing import CliRunner

from imagewright.cli.run import cancel, resume
from imagewright.launch.kubeflow import KubeflowError

app = typer.Typer()
app.command()(cancel)
app.command()(resume)
IMAGE = "registry.example/imagewright-worker@sha256:" + "a" * 64


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with kubeflow_server() as started:
        started.runs["r-0"] = {"run_id": "r-0", "display_name": "monday", "state": "RUNNING"}
        yield started


def call(cluster: Cluster, *arguments: str) -> tuple[int, str]:
    named = ["--on", "kfp", "--set", f"kubeflow.url={cluster.url}", "--set", f"kubeflow.worker_image={IMAGE}"]
    result = CliRunner().invoke(app, [*arguments, *named], catch_exceptions=False)
    return result.exit_code, result.output


def test_a_run_is_ended(cluster: Cluster) -> None:
    assert call(cluster, "cancel", "r-0") == (0, "r-0: canceled\n")


@pytest.mark.parametrize(("state", "code"), [("SUCCEEDED", 0), ("FAILED", 1)])
def test_a_run_is_continued_and_watched_to_its_end(cluster: Cluster, state: str, code: int) -> None:
    cluster.state_after_retry = state
    ended, said = call(cluster, "resume", "r-0")
    assert ended == code
    assert "pick-fruit: succeeded" in said
    assert f"run r-0: {state.lower()}" in said


def test_a_run_that_is_not_there_is_named(cluster: Cluster) -> None:
    with pytest.raises(KubeflowError, match="no such run"):
        call(cluster, "cancel", "r-9")


@pytest.mark.parametrize("verb", ["cancel", "resume"])
def test_a_run_on_kubeflow_must_be_named(cluster: Cluster, verb: str) -> None:
    with pytest.raises(ValueError, match="run_id: must be given with --on kfp"):
        call(cluster, verb)
