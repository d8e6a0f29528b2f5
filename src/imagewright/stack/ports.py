"""Free loopback ports for the servers of the local stack."""

from __future__ import annotations

import random
import socket
from collections.abc import Sequence

from imagewright.errors import Problem
from imagewright.stack.errors import StackError

LOOPBACK = "127.0.0.1"
# Below the range from which kernels draw ports of outgoing connections, so that a server finds its port free when it restarts.
LOWEST_PORT = 20_000
HIGHEST_PORT = 31_999
MAX_TRIES = 2_000


def is_free(port: int) -> bool:
    """Say whether a server could listen on this loopback port now; connections in TIME_WAIT do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def choose_ports(count: int, preferred: Sequence[int] = ()) -> tuple[int, ...]:
    """Return the preferred ports when all of them are free, else `count` other free ports. Raises StackError when there are none."""
    if len(preferred) == count and all(is_free(port) for port in preferred):
        return tuple(preferred)
    chosen: list[int] = []
    for _ in range(MAX_TRIES):
        port = random.randint(LOWEST_PORT, HIGHEST_PORT)
        if port not in chosen and is_free(port):
            chosen.append(port)
        if len(chosen) == count:
            return tuple(chosen)
    received = f"{len(chosen)} of {count}"
    raise StackError(
        Problem("stack.ports", f"finds too few free ports in {LOWEST_PORT}-{HIGHEST_PORT}", received, "end programs that listen there")
    )
