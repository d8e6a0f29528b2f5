"""The local stack with real servers: races, crashes, taken ports, stale records and stops that hang."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import urllib3
from minio import Minio

from imagewright import stack
from imagewright.doctor import all_checks, examine
from imagewright.stack import local, services
from imagewright.stack.home import Home
from imagewright.stack.process import ProcessRecord, marked, tail
from imagewright.stack.services import BUCKET, MLFLOW, S3

START = (
    "import sys, json; from pathlib import Path; from imagewright import stack; print(json.dumps(stack.start(Path(sys.argv[1])).variables))"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home whose name holds characters that URLs and comma lists give a meaning to, with two `up`s racing to start it."""
    path = tmp_path_factory.mktemp("stack") / "100%, of it"
    racing = [subprocess.Popen([sys.executable, "-c", START, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    try:
        outputs = [process.communicate(timeout=120) for process in racing]
        assert [process.returncode for process in racing] == [0, 0], outputs
        assert json.loads(outputs[0][0]) == json.loads(outputs[1][0])
        yield Home.of(path)
    finally:
        stack.stop(path, grace_seconds=0.5)


def s3_client(home: Home) -> Minio:
    variables = stack.environment(home.path.parent)
    return Minio(
        endpoint=variables["AWS_ENDPOINT_URL"].removeprefix("http://"),
        access_key=variables["AWS_ACCESS_KEY_ID"],
        secret_key=variables["AWS_SECRET_ACCESS_KEY"],
        secure=False,
        region="us-east-1",
    )


def mlflow_call(home: Home, method: str, body: dict[str, object]) -> dict[str, dict[str, dict[str, str]]]:
    url = stack.environment(home.path.parent)["MLFLOW_TRACKING_URI"]
    answer = urllib3.request("POST", f"{url}/api/2.0/mlflow/{method}", json=body, retries=False, timeout=20.0)
    assert answer.status == 200, answer.data
    return dict(answer.json())


def records(home: Home) -> dict[str, ProcessRecord]:
    found = {name: ProcessRecord.load(home.record(name)) for name in (S3, MLFLOW)}
    return {name: record for name, record in found.items() if record is not None}


def kill(record: ProcessRecord) -> None:
    process = psutil.Process(record.pid)
    process.kill()
    psutil.wait_procs([process], timeout=5)


@pytest.mark.e2e
def test_two_racing_starts_give_one_pair_of_servers(home: Home) -> None:
    assert [one.state for one in stack.status(home.path.parent)] == ["running", "running"]
    assert len(marked(f"{S3}:{home.path}")) == 1
    assert {one.pid for one in stack.status(home.path.parent)} == {record.pid for record in records(home).values()}


@pytest.mark.e2e
def test_a_second_start_is_harmless(home: Home) -> None:
    before, variables = records(home), stack.environment(home.path.parent)
    said: list[str] = []
    assert stack.start(home.path.parent, progress=said.append).variables == variables
    assert records(home) == before
    assert said == []


@pytest.mark.e2e
def test_doctor_finds_store_registry_and_tracking_of_the_running_stack_well(home: Home) -> None:
    checks = all_checks(home.path.parent, {"PATH": os.environ["PATH"]})
    findings = examine({name: checks[name] for name in ("store", "registry", "tracking")}, {})
    assert [finding.state for finding in findings] == ["ok", "ok", "ok"], findings


@pytest.mark.e2e
def test_wrong_credentials_are_refused_by_the_server(home: Home) -> None:
    client = Minio(
        endpoint=stack.environment(home.path.parent)["AWS_ENDPOINT_URL"].removeprefix("http://"),
        access_key=home.credentials().access_key,
        secret_key="wrong",
        secure=False,
        region="us-east-1",
    )
    with pytest.raises(Exception, match=r"SignatureDoesNotMatch|signature"):
        client.put_object(bucket_name=BUCKET, object_name="x", data=io.BytesIO(b"x"), length=1)


@pytest.mark.e2e
def test_the_bucket_drops_what_killed_multipart_uploads_leave(home: Home) -> None:
    variables = stack.environment(home.path.parent)
    client = Minio(
        endpoint=variables["AWS_ENDPOINT_URL"].removeprefix("http://"),
        access_key=variables["AWS_ACCESS_KEY_ID"],
        secret_key=variables["AWS_SECRET_ACCESS_KEY"],
        secure=False,
        region="us-east-1",
    )
    rules = client.get_bucket_lifecycle(bucket_name=BUCKET).rules
    assert [rule.abort_incomplete_multipart_upload.days_after_initiation for rule in rules] == [7]


def test_after_kill_9_and_with_its_port_taken_the_next_start_has_all_data(home: Home) -> None:
    client = s3_client(home)
    written = {f"data/{number}": os.urandom(1000 + number) for number in range(20)}
    for name, content in written.items():
        client.put_object(bucket_name=BUCKET, object_name=name, data=io.BytesIO(content), length=len(content))
    run = mlflow_call(home, "runs/create", {"experiment_id": "0", "run_name": "kept", "start_time": 1})["run"]["info"]
    assert run["artifact_uri"].startswith(f"s3://{BUCKET}/mlflow/")
    before, credentials = records(home), home.credentials()
    for record in before.values():
        kill(record)
    assert [one.state for one in stack.status(home.path.parent)] == ["stopped", "stopped"]

    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", before[S3].ports[0]))
        other.listen()
        stack.start(home.path.parent)

    after = records(home)
    assert after[S3].ports[0] != before[S3].ports[0]
    assert after[MLFLOW].ports == before[MLFLOW].ports
    assert home.credentials() == credentials
    client = s3_client(home)
    for name, content in written.items():
        assert client.get_object(bucket_name=BUCKET, object_name=name).read() == content
    assert mlflow_call(home, "runs/update", {"run_id": run["run_id"]})["run_info"]["run_name"] == "kept"
    assert len(marked(f"{MLFLOW}:{home.path}")) == len(psutil.Process(after[MLFLOW].pid).children(recursive=True)) + 1
    assert home.log(S3).with_name("s3.log.1").exists()


@pytest.mark.e2e
def test_a_server_that_hangs_is_stopped_in_time_and_no_process_stays(home: Home) -> None:
    psutil.Process(records(home)[S3].pid).send_signal(signal.SIGSTOP)
    began = time.monotonic()
    assert sorted(stack.stop(home.path.parent, grace_seconds=0.5)) == [MLFLOW, S3]
    assert time.monotonic() - began < 30
    assert [one.state for one in stack.status(home.path.parent)] == ["stopped", "stopped"]
    assert marked(f"{S3}:{home.path}") == marked(f"{MLFLOW}:{home.path}") == []
    assert stack.stop(home.path.parent) == []


def test_a_stale_record_with_a_reused_pid_does_not_stop_the_other_program(tmp_path: Path) -> None:
    home = Home.of(tmp_path)
    home.prepare()
    with subprocess.Popen(["sleep", "30"]) as innocent:
        ProcessRecord(innocent.pid, time.time() - 3600, (20_001,), "old").save(home.record(MLFLOW))
        assert [one.state for one in stack.status(tmp_path)] == ["stopped", "stopped"]
        assert stack.stop(tmp_path) == []
        assert innocent.poll() is None
        innocent.kill()


def test_a_server_that_ends_at_once_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    home = Home.of(tmp_path)
    home.prepare()
    dying = services.mlflow_service(home, (20_001,), "http://127.0.0.1:20002")
    dying = replace(dying, command=(sys.executable, "-c", "print('cannot bind'); raise SystemExit(3)"))
    record = local._launch(home, dying)
    with pytest.raises(local._DiedError):
        local._wait_until_healthy(dying, record, 10.0, threading.Event())
    assert "cannot bind" in tail(home.log(MLFLOW), 1)[0]
    assert "cannot bind" in str(local._failure(home, dying, "ended"))


def test_a_home_that_was_never_started_has_no_environment_and_nothing_to_stop(tmp_path: Path) -> None:
    with pytest.raises(stack.StackError, match="imagewright up"):
        stack.environment(tmp_path / "none")
    assert stack.stop(tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


def test_loopback_is_kept_away_from_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home.of(tmp_path)
    home.prepare()
    for name in (S3, MLFLOW):
        ProcessRecord(1, 0.0, (20_001,), "f").save(home.record(name))
    monkeypatch.setenv("NO_PROXY", "internal.example")
    assert stack.environment(tmp_path)["NO_PROXY"] == "internal.example,127.0.0.1,localhost"
