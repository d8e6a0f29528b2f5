"""Ends a job whose runner is gone: after a `kill -9` of the runner nothing keeps writing."""

from __future__ import annotations

import os
import signal
import threading
import time

POLL_SECONDS = 1.0
GRACE_SECONDS = 30.0


def watch_parent() -> None:
    """Starts a daemon thread that sends this process SIGTERM once its parent has died, and SIGKILL after a grace period."""
    parent = os.getppid()
    if parent == 1:  # process 1 of a container's own tree: the runtime ends the container, there is no runner to watch
        return
    threading.Thread(target=follow, args=(parent,), name="parent-watch", daemon=True).start()


def follow(parent: int) -> None:
    """Waits for the parent to go, then ends this process."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
