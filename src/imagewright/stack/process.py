"""Server processes that outlive the command that started them: start, recognise again, stop within a deadline, read the log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from imagewright.stack.home import write_private

# Every process of a server, and every child of it, carries this variable: orphans of a killed parent are found by it.
MARKER_VARIABLE = "IMAGEWRIGHT_STACK_SERVICE"
START_TIME_TOLERANCE_SECONDS = 1.0
KILL_WAIT_SECONDS = 5.0
KEPT_LOGS = 3
MAX_TAIL_BYTES = 1 << 20


@dataclass(frozen=True)
class ProcessRecord:
    """What is written down about a started server.

    started: the kernel's start time of the process [seconds since the epoch], so that a reused pid is not taken for the server.
    fingerprint: digest of its command line and environment; another one means it must be restarted.
    """

    pid: int
    started: float
    ports: tuple[int, ...]
    fingerprint: str

    def save(self, path: Path) -> None:
        write_private(path, asdict(self))

    @staticmethod
    def load(path: Path) -> ProcessRecord | None:
        """Read a record; a missing or damaged file counts as none, since processes are also found by their marker."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return ProcessRecord(
                pid=int(content["pid"]),
                started=float(content["started"]),
                ports=tuple(int(port) for port in content["ports"]),
                fingerprint=str(content["fingerprint"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def process(self) -> psutil.Process | None:
        """Return the live process of this record, or None when it is gone, dead or its pid belongs to another program by now."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < START_TIME_TOLERANCE_SECONDS
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return None


def spawn(command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path, marker: str) -> tuple[int, float]:
    """Start a server in its own session with its output in `log` and return (pid, start time [seconds since the epoch]).

    Raises OSError when the program is missing or the log cannot be written.
    """
    rotate(log)
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command),
            env={**environment, MARKER_VARIABLE: marker},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        started = psutil.Process(process.pid).create_time()
    except psutil.NoSuchProcess:
        started = time.time()
    process.returncode = 0  # the server outlives this object on purpose; without a code its finalizer would warn
    return process.pid, started


def marked(marker: str) -> list[psutil.Process]:
    """Return every live process that carries the marker, orphaned children included."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARKER_VARIABLE) == marker and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def terminate(processes: Sequence[psutil.Process], grace_seconds: float) -> bool:
    """Send TERM, wait `grace_seconds`, send KILL to what is left; True when nothing lives on. Never waits longer than grace + 5 s."""
    _signal(processes, signal.SIGTERM)
    # A stopped process would keep TERM pending for ever.
    _signal(processes, signal.SIGCONT)
    _, alive = psutil.wait_procs(list(processes), timeout=grace_seconds)
    _signal(alive, signal.SIGKILL)
    _, alive = psutil.wait_procs(alive, timeout=KILL_WAIT_SECONDS)
    return not alive


def rotate(log: Path) -> None:
    """Move `name.log` to `name.log.1`, that to `.2` and so on; the oldest of KEPT_LOGS is overwritten."""
    if not log.exists() or log.stat().st_size == 0:
        return
    for number in range(KEPT_LOGS - 1, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number + 1}"))
    log.replace(log.with_name(f"{log.name}.1"))


def tail(log: Path, num_lines: int) -> list[str]:
    """Return the last lines of a log, reading at most 1 MiB; a missing log has none."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MAX_TAIL_BYTES))
            text = file.read(MAX_TAIL_BYTES).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-num_lines:] if num_lines > 0 else []


def _signal(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.Error:
            continue
