"""Ends a job whose runner is gone: after a `kill -9` of the runner nothing keeps writing."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

POLL_SECONDS = 1.0
GRACE_SECONDS = 30.0
RUNNER_LOCK = "runner.lock"
"""File in a run's folder that its runner holds locked for as long as it lives; the kernel lets go of it when the runner dies."""


def watch_runner(environ: Mapping[str, str] = os.environ, parent: int | None = None) -> None:
    """Starts a daemon thread that sends this process SIGTERM once its runner is gone, and ends it after a grace period.

    The runner is the parent process, or, in a container on the runner's machine, whoever holds the lock in the run's folder.
    parent: pid of the parent when it is not this process's own; 0 and 1 are a container's.
    """
    parent = os.getppid() if parent is None else parent
    lock = Path(environ.get("IMAGEWRIGHT_RUN_FOLDER", "")) / RUNNER_LOCK
    if parent > 1:
        is_gone: Callable[[], bool] = lambda: os.getppid() != parent  # noqa: E731
    elif environ.get("IMAGEWRIGHT_RUN_FOLDER") and lock.exists():
        is_gone = lambda: not is_locked(lock)  # noqa: E731
    else:  # process 1 of a container's own tree: the runtime ends the container, there is no runner to watch
        return
    if parent <= 1 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, leave)  # the kernel drops signals that process 1 does not handle
    threading.Thread(target=follow, args=(is_gone,), name="runner-watch", daemon=True).start()


def is_locked(path: Path) -> bool:
    """Whether another open file holds the lock."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def leave(_signal: int, _frame: FrameType | None) -> None:
    """Ends the process as an unhandled SIGTERM would."""
    sys.exit(128 + signal.SIGTERM)


def follow(is_gone: Callable[[], bool]) -> None:
    """Waits for the runner to go, then ends this process."""
    while not is_gone():
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(128 + signal.SIGKILL)  # SIGKILL to itself would be dropped in a container's process 1
