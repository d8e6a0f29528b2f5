"""Starts one training run as several processes of this machine under torchrun, and passes what they track on to the job's run.

Started on many nodes, the platform runs torchrun itself and `open_world` finds its variables; this file is not involved then.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagewright.tracking.job_run import JobRun, NullRun
from imagewright.training.interruption import StopRequest, TrainingInterrupted

POLL_SECONDS = 0.5


class ProcessesFailedError(RuntimeError):
    """A training process ended with an error; its own message is on the console."""


class JournalRun(NullRun):
    """Writes metrics, events and names of artifacts as lines of a file, for the process that holds the tracked run."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("a", encoding="utf-8", buffering=1)

    def log_metrics(self, metrics: Mapping[str, Any], step: int) -> None:
        """One line."""
        super().log_metrics(metrics, step)
        self.file.write(json.dumps({"metrics": {name: float(value) for name, value in metrics.items()}, "step": step}) + "\n")

    def log_event(self, name: str, step: int, detail: str) -> None:
        """One line."""
        super().log_event(name, step, detail)
        self.file.write(json.dumps({"event": name, "step": step, "detail": detail}) + "\n")

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """One line; the file stays where it is until the reader has passed it on."""
        super().log_artifact(path, folder)
        self.file.write(json.dumps({"artifact": str(path.resolve()), "folder": folder}) + "\n")


class JournalReader:
    """Passes the lines of a journal on to a run, each once; half-written lines wait."""

    def __init__(self, path: Path, run: JobRun) -> None:
        self.path, self.run, self.offset = path, run, path.stat().st_size if path.exists() else 0

    def forward(self) -> None:
        """Everything written since the last call."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.offset)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self.offset += len(whole)
        for line in whole.splitlines():
            entry = json.loads(line)
            if "metrics" in entry:
                self.run.log_metrics(entry["metrics"], entry["step"])
            elif "artifact" in entry:
                self.run.log_artifact(Path(entry["artifact"]), entry["folder"])
            else:
                self.run.log_event(entry["event"], entry["step"], entry["detail"])


def run_processes(module: str, arguments: list[str], num_processes: int, journal: Path, run: JobRun) -> None:
    """Runs `python -m module arguments` in `num_processes` processes until all have ended; a signal to us reaches them.

    Raises TrainingInterrupted when they saved and stopped because of a signal, ProcessesFailedError when one failed.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}", "-m", module, *arguments]
    reader = JournalReader(journal, run)
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    asked = False
    with StopRequest() as stop, subprocess.Popen(command, env=environment, start_new_session=True) as process:
        try:
            while process.poll() is None:
                reader.forward()
                if stop.requested and not asked:
                    process.terminate()  # torchrun alone: it tells its processes, and a second signal would end them before they save
                    asked = True
                time.sleep(POLL_SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            reader.forward()
    if process.returncode and asked:
        raise TrainingInterrupted(0)
    if process.returncode:
        raise ProcessesFailedError(f"{module} failed in one of {num_processes} processes (exit code {process.returncode})")
