"""What the servers are told: loopback only, no telemetry, no secret on a command line."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from imagewright.stack import services
from imagewright.stack.home import Home

S3_PORTS = tuple(range(20_101, 20_109))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    place = Home(tmp_path)
    place.prepare()
    return place


def test_every_port_of_the_s3_server_is_named_and_different(home: Home) -> None:
    service = services.s3_service(home, S3_PORTS)
    named = [int(argument.split("=")[1]) for argument in service.command if ".port=" in argument or ".port.grpc=" in argument]
    assert sorted(named) == sorted(S3_PORTS)
    assert service.url == "http://127.0.0.1:20101"


def test_servers_listen_on_loopback_only_and_report_to_nobody(home: Home) -> None:
    s3, mlflow = services.s3_service(home, S3_PORTS), services.mlflow_service(home, (20_200,), "http://127.0.0.1:20101")
    assert "-ip.bind=127.0.0.1" in s3.command
    assert "-master.telemetry=false" in s3.command
    assert mlflow.command[mlflow.command.index("--host") + 1] == "127.0.0.1"
    assert mlflow.environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_no_secret_stands_on_a_command_line(home: Home) -> None:
    secret = home.credentials().secret_key
    for service in (services.s3_service(home, S3_PORTS), services.mlflow_service(home, (20_200,), "http://127.0.0.1:20101")):
        assert all(secret not in argument for argument in service.command)


def test_settings_of_other_stores_do_not_reach_the_servers(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "someone")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "old")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    mlflow = services.mlflow_service(home, (20_200,), "http://127.0.0.1:20101")
    assert not {"AWS_PROFILE", "MLFLOW_TRACKING_URI"} & set(mlflow.environment)
    assert mlflow.environment["AWS_SESSION_TOKEN"] == ""
    assert mlflow.environment["PATH"] == os.environ["PATH"]


def test_a_moved_s3_server_changes_what_mlflow_was_told_but_another_interpreter_does_not(home: Home) -> None:
    mlflow = services.mlflow_service(home, (20_200,), "http://127.0.0.1:20101")
    moved = services.mlflow_service(home, (20_200,), "http://127.0.0.1:20301")
    assert moved.fingerprint != mlflow.fingerprint
    assert replace(mlflow, command=("/usr/bin/python3", *mlflow.command[1:])).fingerprint == mlflow.fingerprint


def test_the_s3_binary_comes_with_the_installed_package() -> None:
    assert os.access(services.find_weed(), os.X_OK)
