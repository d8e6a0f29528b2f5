"""What is on disk after a log call returned, whatever happened to the process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagewright.tracking.job_run import TrackingError
from imagewright.tracking.spool import abandoned_sessions, decode, encode, new_session


@given(st.dictionaries(st.text(max_size=20), st.floats(allow_nan=False, allow_infinity=False), max_size=5), st.integers(0, 2**63 - 1))
def test_a_line_gives_back_every_bit_of_what_was_logged(values: dict[str, float], step: int) -> None:
    entry = {"k": "m", "t": 1, "s": step, "v": values}
    assert decode(encode(entry)[:-1]) == entry


@given(st.integers(0, 40), st.integers(1, 255))
def test_one_changed_byte_is_noticed(place: int, change: int) -> None:
    line = bytearray(encode({"k": "m", "t": 1, "s": 2, "v": {"train/loss": 0.5}})[:-1])
    line[place] ^= change
    assert decode(bytes(line)) in (None, {"k": "m", "t": 1, "s": 2, "v": {"train/loss": 0.5}})  # a hex digit may change its case


def test_a_live_session_is_left_alone_and_a_released_one_is_found(tmp_path: Path) -> None:
    session = new_session(tmp_path, {"task": "a"})
    assert abandoned_sessions(tmp_path) == []
    session.release()
    (found,) = abandoned_sessions(tmp_path)
    assert found.describe() == {"task": "a"}
    found.remove()
    assert abandoned_sessions(tmp_path) == []


def test_the_session_of_a_killed_process_is_found_while_its_forked_child_lives(tmp_path: Path) -> None:
    script = (
        "import os, sys, time; from pathlib import Path; from imagewright.tracking.spool import new_session\n"
        "session = new_session(Path(sys.argv[1]), {'task': 'a'})\n"
        "ready, tell = os.pipe()\n"
        "child = os.fork()\n"
        "if child == 0:\n    os.write(tell, b'x'); time.sleep(60)\n"
        "os.read(ready, 1)\n"  # the child runs: what it inherited is closed
        "print(child, flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        assert abandoned_sessions(tmp_path) == []
        process.kill()
        process.wait()
        assert len(abandoned_sessions(tmp_path)) == 1
    finally:
        os.kill(child, 9)
        process.stdout.close()


def test_a_work_folder_that_is_a_file_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("")
    with pytest.raises(TrackingError, match="work folder on a writable disk"):
        new_session(tmp_path / "spool", {})


def test_sessions_are_delivered_oldest_first(tmp_path: Path) -> None:
    names = []
    for number in range(3):
        session = new_session(tmp_path, {"number": number})
        names.append(session.folder.name)
        session.release()
        time.sleep(0.001)
    assert [session.folder.name for session in abandoned_sessions(tmp_path)] == names
