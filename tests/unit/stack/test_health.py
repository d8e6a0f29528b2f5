"""Health checks: a server that is down, or that answers with errors, is not healthy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from imagewright.stack import health
from imagewright.stack.home import Credentials
from imagewright.stack.ports import choose_ports

ANYONE = Credentials("a" * 8, "b" * 16)


class Failing(BaseHTTPRequestHandler):
    """A server that answers /health but fails at everything that matters."""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200 if self.path == "/health" else 500)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"no")

    do_GET = do_POST = do_PUT = do_HEAD = answer  # noqa: N815 - names set by the standard library

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(scope="module")
def failing() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Failing)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_tracking_server_that_answers_500_is_not_healthy(failing: str) -> None:
    with pytest.raises(health.UNHEALTHY, match="answered 500"):
        health.check_mlflow(failing)


def test_an_object_store_that_answers_500_is_not_healthy(failing: str) -> None:
    with pytest.raises(health.UNHEALTHY):
        health.check_s3(failing, ANYONE, "imagewright")


def test_a_server_that_is_down_is_not_healthy() -> None:
    (port,) = choose_ports(1)
    url = f"http://127.0.0.1:{port}"
    with pytest.raises(health.UNHEALTHY):
        health.check_mlflow(url)
    with pytest.raises(health.UNHEALTHY):
        health.check_s3(url, ANYONE, "imagewright")
    assert not health.answers(url)


def test_answering_with_a_server_error_is_not_an_answer(failing: str) -> None:
    assert not health.answers(failing)
    assert health.answers(f"{failing}/health")
