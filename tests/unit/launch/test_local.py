"""A run on this machine while a person watches it."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from imagewright.jobs.state import StepState
from imagewright.launch.local import INTERRUPTED, is_alive, start, watch
from imagewright.launch.runs import RunFolder, create_run

FACTS = {
    "pipeline": "party",
    "recipe": "debug",
    "jobs": ["pick-fruit", "bake-cake"],
    "force": [],
    "require_cached": [],
    "git_commit": "",
    "parameters": {},
}


class Impatient(io.StringIO):
    """Signals this process as soon as it reads that a step runs."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self.number: signal.Signals | None = number

    def write(self, text: str) -> int:
        written = super().write(text)
        if "running" in text and self.number is not None:
            number, self.number = self.number, None
            signal.raise_signal(number)
        return written


def long_run(home: Path) -> tuple[RunFolder, subprocess.Popen[bytes]]:
    """A run with one step done and one going on, and a process in its own group that stands for its runner."""
    folder = create_run(home, "monday", "pipelineInfo: {name: party}", FACTS)
    runner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", str(folder.path)], start_new_session=True)
    folder.write_state(state="running", pid=runner.pid, started=time.time())
    StepState(folder.path, "pick-fruit").write("done", wall_seconds=1.0)
    StepState(folder.path, "bake-cake").write("running")
    return folder, runner


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python's own answer to Ctrl-C: a test run started in the background inherits an ignored SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_what_stays_and_how_to_go_on(tmp_path: Path, interruptible: None, number: signal.Signals) -> None:
    folder, runner = long_run(tmp_path)
    assert is_alive(folder)
    said = Impatient(number)
    before = signal.getsignal(signal.SIGTERM)
    assert watch(folder, runner, Console(file=said, width=160)) == INTERRUPTED
    assert runner.returncode == -signal.SIGTERM
    assert folder.state()["state"] == "cancelled"
    assert "1 of 2 steps are done and stay done. The same command continues; so does: imagewright resume monday" in said.getvalue()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_pipeline_that_cannot_be_loaded_fails_with_its_reason(tmp_path: Path) -> None:
    folder = create_run(tmp_path, "monday", "pipelineInfo: {name: party}", FACTS)
    said = io.StringIO()
    assert watch(folder, start(folder, {"MLFLOW_TRACKING_URI": ""}), Console(file=said, width=160)) == 1
    assert folder.state()["state"] == "failed"
    assert folder.state()["error"]
