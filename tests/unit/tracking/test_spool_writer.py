"""The spool on a disk that is slow or full: training goes on, a person is told once, nothing is half read."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from imagewright.tracking import spool_writer
from imagewright.tracking.spool import encode
from imagewright.tracking.spool_reader import SpoolReader
from imagewright.tracking.spool_writer import SpoolWriter

Wait = Callable[[Callable[[], bool]], None]


def line(step: int) -> bytes:
    return encode({"k": "m", "t": step, "s": step, "v": {"train/loss": 0.5}})


def read_steps(folder: Path) -> list[int]:
    reader = SpoolReader(folder)
    steps = []
    while (batch := reader.next_batch()) is not None:
        steps += [entry["s"] for entry in batch.entries]
        reader.acknowledge()
    reader.close()
    return steps


def test_a_line_is_on_disk_when_append_returns(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, pytest.fail)
    assert writer.append([line(1), line(2)])
    assert (tmp_path / "00000001.log").read_bytes() == line(1) + line(2)
    writer.close()


def test_segments_change_at_their_size_and_are_read_in_order(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, pytest.fail, segment_bytes=200)
    for step in range(50):
        writer.append([line(step)])
    writer.close()
    assert len(list(tmp_path.glob("*.log"))) > 5
    assert read_steps(tmp_path) == list(range(50))
    assert not (tmp_path / "00000001.log").exists()


def test_a_disk_that_hangs_does_not_hold_the_training_step(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "00000001.log")
    keeper = os.open(tmp_path / "00000001.log", os.O_RDWR)  # nobody reads: the pipe fills and a write blocks for ever
    writer = SpoolWriter(tmp_path, lambda message: None)  # a pipe cannot be synced, which it says
    while writer.append([line(1) * 200]):
        pass
    assert not writer.append([line(2)])
    drained = threading.Thread(target=lambda: [os.read(keeper, 1 << 16) for _ in range(2)], daemon=True)
    drained.start()
    writer.close()
    drained.join()
    os.close(keeper)


def test_points_for_a_full_disk_wait_in_memory_and_a_person_is_told_once(tmp_path: Path, wait_until: Wait) -> None:
    (tmp_path / "00000001.log").symlink_to("/dev/full")
    warnings: list[str] = []
    writer = SpoolWriter(tmp_path, warnings.append)
    for step in range(5):
        assert not writer.append([line(step)])
    wait_until(lambda: bool(warnings))
    assert len(warnings) == 1
    assert "No space left on device" in warnings[0] and "free space" in warnings[0]
    taken: list[bytes] = []

    def take_all() -> bool:
        taken.extend(writer.take_unwritten(2))
        return len(taken) == 5

    wait_until(take_all)
    assert sorted(taken) == sorted(line(step) for step in range(5))
    writer.close()


def test_what_memory_cannot_hold_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_writer, "MAX_UNWRITTEN_LINES", 3)
    (tmp_path / "00000001.log").symlink_to("/dev/full")
    writer = SpoolWriter(tmp_path, lambda text: None)
    for step in range(5):
        writer.append([line(step)])
    assert writer.num_dropped in {1, 2}  # a line in the writer's hand is not counted as waiting
    writer.close()


def test_after_a_full_disk_has_space_again_every_line_is_there_once(tmp_path: Path) -> None:
    script = """
import resource, signal, sys
from pathlib import Path
from imagewright.tracking import spool_writer
from imagewright.tracking.spool import encode
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
spool_writer.RETRY_SECONDS = 0.05
writer = spool_writer.SpoolWriter(Path(sys.argv[1]), print)
line = lambda step: encode({"k": "m", "t": step, "s": step, "v": {"train/loss": 0.5}})
writer.append([line(0)])
resource.setrlimit(resource.RLIMIT_FSIZE, (150, resource.RLIM_INFINITY))  # in the middle of the third line
for step in range(1, 6):
    writer.append([line(step)])
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
for step in range(6, 9):
    writer.append([line(step)])
writer.close()
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True)
    assert "cannot be written" in done.stdout
    assert sorted(read_steps(tmp_path)) == list(range(9))
