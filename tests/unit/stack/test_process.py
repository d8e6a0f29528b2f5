"""Server processes: a reused pid is not ours, orphans are found, stopping ends in time, logs rotate."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from imagewright.stack.process import ProcessRecord, marked, rotate, spawn, tail, terminate

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
CHILD = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
PARENT = CHILD + "; print('ready', flush=True); time.sleep(60)"


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[str]:
    name = f"test:{tmp_path}"
    yield name
    terminate(marked(name), 0.0)


def start_script(script: str, folder: Path, marker: str) -> ProcessRecord:
    log = folder / "server.log"
    pid, started = spawn([sys.executable, "-c", script], dict(os.environ), folder, log, marker)
    deadline = time.monotonic() + 10
    while "ready" not in "".join(tail(log, 5)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return ProcessRecord(pid, started, (1,), "f")


def test_a_record_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    record = ProcessRecord(12, 34.5, (20_001, 20_002), "abc")
    record.save(tmp_path / "record.json")
    assert ProcessRecord.load(tmp_path / "record.json") == record


@pytest.mark.parametrize("content", [None, "", "12", "{}", '{"pid": "x"}', "\x00"])
def test_a_missing_or_damaged_record_counts_as_none(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "record.json").write_text(content)
    assert ProcessRecord.load(tmp_path / "record.json") is None


def test_a_pid_that_another_program_took_is_not_our_server() -> None:
    mine = psutil.Process()
    assert ProcessRecord(mine.pid, mine.create_time(), (1,), "f").process() == mine
    assert ProcessRecord(mine.pid, mine.create_time() - 60, (1,), "f").process() is None


def test_a_server_that_ignores_term_is_killed_within_the_deadline(tmp_path: Path, marker: str) -> None:
    record = start_script(STUBBORN, tmp_path, marker)
    process = record.process()
    assert process is not None
    began = time.monotonic()
    assert terminate([process], 0.3)
    assert time.monotonic() - began < 5.3
    assert record.process() is None


def test_the_child_of_a_killed_server_is_found_by_its_marker(tmp_path: Path, marker: str) -> None:
    record = start_script(PARENT, tmp_path, marker)
    assert len(marked(marker)) == 2
    psutil.Process(record.pid).kill()
    psutil.wait_procs([psutil.Process(record.pid)] if psutil.pid_exists(record.pid) else [], timeout=5)
    assert record.process() is None
    (orphan,) = marked(marker)
    assert terminate([orphan], 1.0)
    assert marked(marker) == []


def test_a_log_is_rotated_at_each_start_and_the_oldest_is_dropped(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    for number in range(5):
        rotate(log)
        log.write_text(f"start {number}\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["server.log", "server.log.1", "server.log.2", "server.log.3"]
    assert (tmp_path / "server.log.3").read_text() == "start 1\n"


def test_the_tail_of_a_log_is_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    assert tail(log, 3) == []
    log.write_bytes(b"one\ntwo\n\xff three\n")
    assert tail(log, 2) == ["two", "\ufffd three"]
    assert tail(log, 0) == []
