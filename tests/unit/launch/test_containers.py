"""What a container of a local run is given, and when its step counts as done."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imagewright.config import Config
from imagewright.config.data import DataConfig, ExternalSource
from imagewright.config.docker import DockerConfig
from imagewright.errors import InputError
from imagewright.jobs.state import StepState
from imagewright.launch.containers import (
    CACHE,
    ContainerPlace,
    DockerUnavailable,
    docker_runner,
    is_record,
    place_of,
    prepare,
    require_image,
    say_failed,
)
from imagewright.launch.local import summary
from imagewright.launch.local_runner import failure
from imagewright.launch.runs import RunFolder, create_run
from imagewright.storage.records import Record, write_record

PLACE = ContainerPlace("localhost/imagewright-worker:aa", "sha256:aa", "10001:10001", "1g", ("/srv/photos",))
COMMAND = ["sh", "-c", "...", "--executor_input", "{}", "--function_to_execute", "pick_fruit"]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    facts = {"pipeline": "party", "recipe": "debug", "jobs": ["pick-fruit", "bake-cake"], "container": PLACE.facts()}
    return create_run(tmp_path / "home", "monday", "pipelineInfo: {name: party}", facts)


@pytest.fixture
def no_docker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")


def test_a_run_remembers_what_its_steps_run_in(folder: RunFolder) -> None:
    assert place_of(folder) == PLACE
    assert summary(folder)["on"] == "docker"


def test_a_container_gets_the_contract_and_nothing_else_of_the_callers_environment(folder: RunFolder, tmp_path: Path) -> None:
    registry = tmp_path / "registry.git"
    registry.mkdir()
    environ = {
        "IMAGEWRIGHT_STORE_URL": "s3://imagewright/",
        "IMAGEWRIGHT_REGISTRY_URL": str(registry),
        "IMAGEWRIGHT_WORK": "/home/me/work",
        "IMAGEWRIGHT_GIT_COMMIT": "c0ffee",
        "AWS_SECRET_ACCESS_KEY": "s3cret",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:5000",
        "PATH": "/usr/bin",
        "GITHUB_TOKEN": "other",
    }
    given = docker_runner(folder, environ).container_run_args
    assert given["environment"] == {
        "IMAGEWRIGHT_STORE_URL": "s3://imagewright/",
        "IMAGEWRIGHT_REGISTRY_URL": str(registry),
        "AWS_SECRET_ACCESS_KEY": "s3cret",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:5000",
        "IMAGEWRIGHT_IMAGE": "sha256:aa",
        "IMAGEWRIGHT_RUN_FOLDER": str(folder.path),
        "IMAGEWRIGHT_WORK": f"{CACHE}/work",
    }
    mounted = {mount["Source"]: (mount["Target"], mount["ReadOnly"]) for mount in given["mounts"]}
    assert mounted == {
        str(folder.path): (str(folder.path), False),
        str(tmp_path / "home" / "containers"): (CACHE, False),
        str(registry): (str(registry), False),
        "/srv/photos": ("/srv/photos", True),
    }
    assert (given["user"], given["read_only"], given["cap_drop"], given["network_mode"]) == ("10001:10001", True, ["ALL"], "host")


def test_a_step_is_done_when_its_record_is_whole(tmp_path: Path) -> None:
    receipt = tmp_path / "receipt.json"
    assert not is_record(receipt)
    receipt.write_text('{"job": "pick-fruit"')
    assert not is_record(receipt)
    write_record(Record(job="pick-fruit", kind="none", digest=""), receipt)
    assert is_record(receipt)


def test_a_step_that_was_killed_is_said_to_have_failed_and_one_that_spoke_keeps_its_words(folder: RunFolder) -> None:
    StepState(folder.path, "pick-fruit").write("running")
    say_failed(folder.path, COMMAND, "the container ended without a record")
    assert "ended without a record; its output: imagewright logs monday" in failure(folder)
    StepState(folder.path, "pick-fruit").write("failed", detail="no fruit")
    say_failed(folder.path, COMMAND, "the container ended without a record")
    assert failure(folder) == "pick-fruit: no fruit"


def test_a_run_whose_runner_claims_success_has_failed_while_a_job_left_no_result(folder: RunFolder) -> None:
    StepState(folder.path, "pick-fruit").write("done")
    assert failure(folder) == "no result of bake-cake"
    StepState(folder.path, "bake-cake").write("cached")
    assert failure(folder) == ""


def test_without_a_docker_api_a_run_is_refused_before_it_starts(no_docker: None, folder: RunFolder) -> None:
    with pytest.raises(DockerUnavailable, match=r"needs a Docker API that answers.*nothing\.sock"):
        prepare(Config())
    with pytest.raises(DockerUnavailable, match="needs a Docker API"):
        require_image(folder)


def test_an_external_source_must_be_at_an_absolute_path(no_docker: None) -> None:
    source = ExternalSource(name="mine", kind="folder", path="photos", licence="CC0-1.0")
    with pytest.raises(InputError, match=f"must be absolute with --on docker.*{os.getcwd()}/photos"):  # noqa: PTH109
        prepare(Config(data=DataConfig(external=(source,))))


@pytest.mark.parametrize("setting", [{"user": "root"}, {"user": "0"}, {"worker_image": ""}, {"shared_memory": "lots"}])
def test_settings_that_no_container_could_have_are_refused(setting: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="pattern"):
        DockerConfig(**setting)
