"""Checks of store, registry and tracking against real folders, repositories and servers."""

from __future__ import annotations

import os
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from imagewright.doctor import services
from imagewright.doctor.finding import State
from imagewright.stack.ports import choose_ports

from .server import serving

SEARCH = "/api/2.0/mlflow/experiments/search"


@pytest.mark.parametrize("check", [services.check_store, services.check_registry, services.check_tracking])
def test_what_is_not_set_up_is_skipped_with_how_to_set_it_up(check: object) -> None:
    finding = check({})  # type: ignore[operator]
    assert finding.state == State.skipped
    assert "imagewright up" in finding.fix


def test_a_folder_store_is_written_read_and_left_clean(tmp_path: Path) -> None:
    finding = services.check_store({"IMAGEWRIGHT_STORE_URL": tmp_path.as_uri()})
    assert finding.state == State.ok
    assert not [
        path for path in tmp_path.rglob("*") if path.is_file() and "doctor" in str(path.relative_to(tmp_path)) and path.stat().st_size
    ]


def test_a_store_that_cannot_be_written_is_a_failure_with_a_fix(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    finding = services.check_store({"IMAGEWRIGHT_STORE_URL": (tmp_path / "file" / "store").as_uri()})
    assert finding.state == State.failed
    assert finding.fix


def test_an_s3_store_without_credentials_names_the_variable() -> None:
    finding = services.check_store({"IMAGEWRIGHT_STORE_URL": "s3://bucket/"})
    assert finding.state == State.failed
    assert "AWS_ACCESS_KEY_ID" in finding.detail


def test_a_registry_is_reached_through_git(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "registry.git"], check=True)
    finding = services.check_registry({**os.environ, "IMAGEWRIGHT_REGISTRY_URL": str(tmp_path / "registry.git")})
    assert finding.state == State.ok
    finding = services.check_registry({**os.environ, "IMAGEWRIGHT_REGISTRY_URL": str(tmp_path / "none.git")})
    assert finding.state == State.failed
    assert "IMAGEWRIGHT_REGISTRY_URL" in finding.fix


def test_a_registry_url_is_never_taken_for_an_option_of_git() -> None:
    finding = services.check_registry({**os.environ, "IMAGEWRIGHT_REGISTRY_URL": "--upload-pack=touch /tmp/owned"})
    assert finding.state == State.failed


@pytest.mark.parametrize(
    ("shown", "status", "state"),
    [
        (version("mlflow"), 200, State.ok),
        ("1.0.0", 200, State.warning),
        (version("mlflow"), 500, State.failed),
        (version("mlflow"), 403, State.failed),
    ],
)
def test_a_tracking_server_is_judged_by_version_and_answers(shown: str, status: int, state: State) -> None:
    with serving({"/version": (200, shown), SEARCH: (status, {"experiments": []})}) as url:
        assert services.check_tracking({"MLFLOW_TRACKING_URI": url}).state == state


def test_a_tracking_server_that_is_down_or_a_file_is_a_failure() -> None:
    (port,) = choose_ports(1)
    for address in (f"http://127.0.0.1:{port}", "file:///tmp/mlruns"):
        finding = services.check_tracking({"MLFLOW_TRACKING_URI": address})
        assert finding.state == State.failed
        assert finding.fix


def test_the_callers_store_comes_before_the_local_stack(tmp_path: Path) -> None:
    environment = {"IMAGEWRIGHT_STORE_URL": "s3://theirs/"}
    assert services.job_environment(tmp_path, environment) == environment
    assert services.job_environment(tmp_path, {}) == {}
