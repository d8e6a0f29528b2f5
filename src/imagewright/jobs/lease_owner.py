"""Who holds a lease: host, pid and start time of a process, so that the lease of one that is gone is taken over at once."""

from __future__ import annotations

import os
import socket

import psutil


def this_process() -> str:
    """Owner name of a lease: host, pid and start time, so that a reused pid is not taken for its predecessor."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time()}"


def is_gone(owner: str) -> bool:
    """True when the owner was a process of this host that no longer lives; owners on other hosts are left to their ttl."""
    host, _, rest = owner.rpartition(":")[0].rpartition(":")
    started = owner.rpartition(":")[2]
    if host != socket.gethostname() or not rest.isdigit():
        return False
    try:
        return str(psutil.Process(int(rest)).create_time()) != started
    except psutil.NoSuchProcess:
        return True
