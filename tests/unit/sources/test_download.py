"""Downloads: size, time, redirects and addresses are limited; a real local server answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from imagewright.data.images import BadImage
from imagewright.sources.download import Downloader, is_public


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/redirect"):
            self.send_response(302)
            self.send_header(
                "Location", {"/redirect-ok": "/image", "/redirect-private": "http://private.example/x"}.get(self.path, self.path)
            )
            self.end_headers()
        elif self.path == "/image":
            self.answer(b"pixels")
        elif self.path == "/big":
            self.answer(b"x" * 5000)
        elif self.path == "/slow":
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(40):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.05)
            except OSError:
                return
        else:
            self.send_error(404)

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        return


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://images.example:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def downloader(max_bytes: int = 1000, max_seconds: float = 10.0) -> Downloader:
    """images.example is this machine and counts as public; every other name is private."""
    return Downloader(
        max_bytes, max_seconds, lambda host, port: ["127.0.0.1" if host == "images.example" else "10.0.0.1"], "127.0.0.1".__eq__
    )


def reason(url: str, **limits: float) -> str:
    with pytest.raises(BadImage) as caught:
        downloader(**limits).get(url)  # type: ignore[arg-type]
    return caught.value.reason


def test_bytes_arrive_also_through_a_redirect(url: str) -> None:
    assert downloader().get(f"{url}/image") == downloader().get(f"{url}/redirect-ok") == b"pixels"


def test_a_redirect_to_a_private_address_is_refused(url: str) -> None:
    assert reason(f"{url}/redirect-private") == "private_address"


def test_limits_hold(url: str) -> None:
    assert len(downloader(max_bytes=5000).get(f"{url}/big")) == 5000
    assert reason(f"{url}/big", max_bytes=4999) == "too_many_bytes"
    assert reason(f"{url}/slow", max_seconds=0.3) == "too_slow"
    assert reason(f"{url}/redirect-loop") == "too_many_redirects"
    assert reason(f"{url}/missing") == "download_failed"


@pytest.mark.parametrize("bad", ["file:///etc/passwd", "ftp://images.example/x", "http:///x", "not a url"])
def test_other_schemes_are_refused(bad: str) -> None:
    assert reason(bad) == "url_scheme"


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "::1", "fe80::1%eth0", "::ffff:10.0.0.1", "224.0.0.1"]
)
def test_private_addresses_are_known(address: str) -> None:
    assert not is_public(address)
    assert is_public("93.184.216.34")
