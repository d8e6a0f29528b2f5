"""Who holds a lease: pid namespace, pid and start time of a process, so that the lease of one that is gone is taken over at once."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil


def this_process() -> str:
    """Owner name of a lease: where its pid counts, pid and start time, so that a reused pid is not taken for its predecessor."""
    return f"{pid_namespace()}:{os.getpid()}:{psutil.Process().create_time()}"


def pid_namespace() -> str:
    """Where the pids of this process mean something: the host, and the kernel's number of the namespace.

    Containers on the host's network share its name, and each has a process 1 of its own.
    """
    try:
        number = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:  # not Linux: one namespace per host
        number = 0
    return f"{socket.gethostname()}/{number}"


def is_gone(owner: str) -> bool:
    """True when the owner was a process we could see and no longer lives; owners on other hosts and in other containers keep their ttl."""
    host, _, rest = owner.rpartition(":")[0].rpartition(":")
    started = owner.rpartition(":")[2]
    if host != pid_namespace() or not rest.isdigit():
        return False
    try:
        return str(psutil.Process(int(rest)).create_time()) != started
    except psutil.NoSuchProcess:
        return True
