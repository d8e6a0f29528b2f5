"""Slow and huge clients on the real server: they are cut off or refused, and others are served meanwhile."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from imagewright.config.serving import ServingConfig
from imagewright.serving.api import create_app
from imagewright.serving.champion import Champion, ModelVersion
from imagewright.serving.connections import bounded_protocol
from imagewright.serving.metrics import ServerMetrics

SERVING = ServingConfig(num_steps=1, default_size_px=32, client_seconds=0.3)
LONG = 1 << 26
HEAD = b"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\n"


@contextmanager
def running(app: ASGIApp) -> Iterator[int]:
    """The app on a free port, behind the bounded protocol."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = int(probe.getsockname()[1])
    settings = uvicorn.Config(app, host="127.0.0.1", port=number, log_level="critical", http=bounded_protocol(0.3))
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield number
    server.should_exit = True
    thread.join(30)


@pytest.fixture(scope="module")
def port(bundle_folder: Path) -> Iterator[int]:
    metrics = ServerMetrics()
    champion = Champion(lambda: ModelVersion("turbo@1", "1" * 64, bundle_folder), SERVING, metrics.image_done)
    assert champion.refresh()
    with running(create_app(champion, SERVING, metrics)) as number:
        yield number


def connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.settimeout(60)
    return connection


def read_all(connection: socket.socket) -> bytes:
    """Everything until the server closes or resets the connection."""
    parts = []
    try:
        while part := connection.recv(1 << 16):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def status_of(port: int, body: dict[str, object]) -> int:
    content = json.dumps(body).encode()
    with connect(port) as connection:
        connection.sendall(HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(content) + content)
        return int(read_all(connection).split()[1])


@pytest.mark.parametrize("sent", [b"", b"POST /v1/images", HEAD])
def test_a_client_that_never_finishes_its_headers_is_cut_off(port: int, sent: bytes) -> None:
    with connect(port) as connection:
        connection.sendall(sent)
        assert read_all(connection) == b""
    assert status_of(port, {"prompt": "a"}) == 200


def test_a_client_that_never_finishes_its_body_is_told_so(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(HEAD + b'Connection: close\r\nContent-Length: 100\r\n\r\n{"prompt":')
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"code":"request_timeout"' in answer


async def long_answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends more than any socket buffer takes."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % LONG)]})
        await send({"type": "http.response.body", "body": bytes(LONG)})


def test_a_client_that_does_not_read_its_answer_is_cut_off() -> None:
    with running(long_answer) as number, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", number))
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"
        while established(number, connection.getsockname()[1]):
            time.sleep(0.05)
        assert len(read_all(connection)) < LONG


def established(port: int, peer: int) -> bool:
    """Whether the server's end of a connection is still open (state 01 in the kernel's table)."""
    table = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    rows = [line.split() for line in table]
    return any(int(row[1].split(":")[1], 16) == port and int(row[2].split(":")[1], 16) == peer and row[3] == "01" for row in rows)


def test_a_body_of_100_megabytes_is_refused_whether_announced_or_not(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(HEAD + b"Content-Length: 104857600\r\n\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 413")
    with connect(port) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"%x\r\n" % (1 << 20) + b"a" * (1 << 20) + b"\r\n"
        try:
            for _ in range(100):
                connection.sendall(chunk)
        except ConnectionError:
            return  # the server answered and closed before the client was done
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 413")
