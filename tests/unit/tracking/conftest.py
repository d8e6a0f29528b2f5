"""A real MLflow server for the session, and a real HTTP server in front of it that can fail in the ways servers fail."""

from __future__ import annotations

import http.client
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mlflow import MlflowClient

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "fixtures"))
from mlflow_server import running_mlflow


@pytest.fixture(scope="session")
def wait_until() -> Callable[[Callable[[], bool]], None]:
    """Polls a condition for two minutes; the caller asserts what it waited for."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.02)

    return wait


@pytest.fixture(scope="session")
def server_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an MLflow server on SQLite."""
    with running_mlflow(tmp_path_factory.mktemp("mlflow")) as uri:
        yield uri


@pytest.fixture
def client(server_uri: str) -> MlflowClient:
    return MlflowClient(server_uri)


class UnreliableServer:
    """Forwards to the real server while `mode` is "pass". "500": answers 500. "lost": forwards, then answers 500.

    "drop": hangs up. "text": answers 200 with a page that is not MLflow's.
    """

    def __init__(self, target: str) -> None:
        self.mode = "pass"
        self.num_failed = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                mode = outer.mode
                status, answer = 500, b"oops"
                if mode in {"pass", "lost"}:
                    host, _, port = target.removeprefix("http://").partition(":")
                    connection = http.client.HTTPConnection(host, int(port), timeout=30)
                    headers = {"Content-Type": self.headers.get("Content-Type") or "application/json"}
                    connection.request(self.command, self.path, body, headers)
                    response = connection.getresponse()
                    received = response.read()
                    connection.close()
                    if mode == "pass":
                        status, answer = response.status, received
                if mode == "text":
                    status, answer = 200, b"<html>maintenance</html>"
                if mode != "pass":
                    outer.num_failed += 1
                if mode == "drop":
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - http.server calls these names

            def log_message(self, format: str, *args: object) -> None:
                """Keeps the test output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def unreliable(server_uri: str) -> Iterator[UnreliableServer]:
    server = UnreliableServer(server_uri)
    yield server
    server.stop()
