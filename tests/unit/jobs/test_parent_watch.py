"""A job in a container has no parent to watch: it ends when its runner lets go of the run's lock, however the runner died."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from imagewright.jobs.parent_watch import RUNNER_LOCK, is_locked
from imagewright.launch.runs import RunFolder

JOB = """
import sys, time
from imagewright.jobs.parent_watch import watch_runner
watch_runner({"IMAGEWRIGHT_RUN_FOLDER": sys.argv[1]}, parent=int(sys.argv[2]))
print("up", flush=True)
time.sleep(float(sys.argv[3]))
"""


def job(folder: Path, parent: int, seconds: float) -> subprocess.Popen[str]:
    started = subprocess.Popen([sys.executable, "-c", JOB, str(folder), str(parent), str(seconds)], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    assert started.stdout.readline() == "up\n"
    return started


def test_a_job_in_a_container_ends_when_its_runner_is_gone(tmp_path: Path) -> None:
    lock = RunFolder(tmp_path).hold()
    assert is_locked(tmp_path / RUNNER_LOCK)
    started = job(tmp_path, 0, 60)
    assert started.poll() is None
    lock.close()
    assert not is_locked(tmp_path / RUNNER_LOCK)
    assert started.wait(20) == 128 + signal.SIGTERM


def test_a_container_without_a_runner_beside_it_watches_nothing(tmp_path: Path) -> None:
    assert job(tmp_path, 1, 0.1).wait(20) == 0
