"""What a request makes of a server's answer: bodies of every form, idle connections that ended, and answers that are not HTTP."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from imagewright.storage import http_connections
from imagewright.storage.http_connections import ConnectionBroken, Connections

Serve = Callable[..., Connections]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that gives the next of the raw answers to each request; None ends the connection."""
    listeners: list[socket.socket] = []

    def start(*answers: bytes | None) -> Connections:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        left = list(answers)

        def speak() -> None:
            while left:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    while left and connection.recv(65536):
                        connection.sendall(left.pop(0) or b"")
                        if left and left[0] is None:
                            left.pop(0)
                            break

        threading.Thread(target=speak, daemon=True).start()
        return Connections(f"http://127.0.0.1:{listener.getsockname()[1]}")

    yield start
    for listener in listeners:
        listener.close()


def get(connections: Connections, method: str = "GET") -> tuple[int, bytes]:
    """Status and body of one request."""
    answer = connections.request(method, "/b/k", {"Host": "h"}, None)
    return answer.status, answer.data


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndata",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ndat\r\n1;x=y\r\na\r\n0\r\nTrailer: t\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndata",
    ],
)
def test_every_form_of_a_body_is_read_whole_and_the_connection_kept(serve: Serve, raw: bytes) -> None:
    connections = serve(raw, raw)
    assert [get(connections), get(connections)] == [(200, b"data")] * 2


def test_a_body_that_ends_with_its_connection_is_read_whole(serve: Serve) -> None:
    assert get(serve(b"HTTP/1.0 200 OK\r\n\r\ndata", None)) == (200, b"data")


def test_an_answer_without_a_body_leaves_the_connection_usable(serve: Serve) -> None:
    connections = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n")
    assert [get(connections, "HEAD"), get(connections, "DELETE")] == [(200, b""), (204, b"")]


def test_an_idle_connection_that_the_server_ended_breaks_one_request_and_not_the_next(serve: Serve) -> None:
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    connections = serve(good, None, good)
    assert get(connections) == (200, b"")
    with pytest.raises(ConnectionBroken):
        get(connections)
    assert get(connections) == (200, b"")


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 3 + b"x" * 70_000,
    ],
)
def test_an_answer_that_is_not_http_is_an_error_and_not_a_value(serve: Serve, raw: bytes) -> None:
    with pytest.raises(ConnectionBroken):
        get(serve(raw, None))


def test_a_body_cut_short_is_an_error_and_not_a_shorter_value(serve: Serve) -> None:
    with pytest.raises(ConnectionBroken):
        get(serve(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ndata", None))


def test_a_forked_process_opens_connections_of_its_own(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    connections = serve(good, good)
    get(connections)
    monkeypatch.setattr(http_connections.os, "getpid", lambda: -1)
    kept = connections._free
    connections._free = list(kept)
    for connection in kept:
        connection.close()  # a request over the parent's connection would now fail
    assert get(connections) == (200, b"")
