"""What a person reads when the S3 server refuses, breaks off, lies or is not there; and that nothing is lost or half-visible."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from seaweedfs import BUCKET, S3Server

from imagewright.storage import NameTaken, PayloadChanged, Store, StoreAccessDenied, StoreError, StoreUnavailable, open_store
from imagewright.storage.backend import Condition
from imagewright.storage.digests import digest_bytes
from imagewright.storage.s3_backend import S3Backend
from imagewright.storage.s3_requests import Retries, S3Address

FAST_RETRIES = Retries(total=3, backoff_seconds=0.02, jitter_seconds=0)


@dataclass
class Behaviour:
    """What the small server does. answers: statuses for the next requests, 0 breaks the connection off after doing the work."""

    answers: list[int] = field(default_factory=list)
    always: int = 0
    cut_bytes: int = 0
    objects: dict[str, bytes] = field(default_factory=dict)
    num_requests: int = 0


@pytest.fixture
def flawed_server() -> Iterator[tuple[Behaviour, S3Backend]]:
    """A small real HTTP server that keeps objects and misbehaves as told, and a backend for it."""
    behaviour = Behaviour()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            behaviour.num_requests += 1
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = behaviour.always or (behaviour.answers.pop(0) if behaviour.answers else 200)
            if answer not in (0, 200):
                return self.answer(answer, b"<Error><Code>InternalError</Code></Error>")
            status, data = self.do_work(body)
            if answer == 0:
                return self.connection.shutdown(socket.SHUT_RDWR)
            return self.answer(status, data)

        def do_work(self, body: bytes) -> tuple[int, bytes]:
            if self.command == "PUT":
                if self.headers.get("If-None-Match") == "*" and self.path in behaviour.objects:
                    return 412, b"<Error><Code>PreconditionFailed</Code></Error>"
                behaviour.objects[self.path] = body[: len(body) - behaviour.cut_bytes]
            if self.command == "HEAD" and self.path == "/bucket/":
                return 200, b""
            if self.command == "DELETE":
                behaviour.objects.pop(self.path, None)
                return 204, b""
            found = behaviour.objects.get(self.path)
            return (404, b"<Error><Code>NoSuchKey</Code></Error>") if found is None else (200, found)

        def answer(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("ETag", f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"')
            data = b"" if self.command == "PUT" and status == 200 else data
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

        do_GET = do_PUT = do_HEAD = do_DELETE = handle_any  # noqa: N815 - http.server's names

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    address = S3Address(f"http://127.0.0.1:{server.server_address[1]}", "bucket", "p", "key", "verysecret")
    yield behaviour, S3Backend(address, FAST_RETRIES)
    server.shutdown()
    server.server_close()


def test_a_server_that_keeps_answering_500_is_given_up_with_a_clear_error(flawed_server: tuple[Behaviour, S3Backend]) -> None:
    behaviour, backend = flawed_server
    backend.write("k", b"data")
    behaviour.num_requests, behaviour.always = 0, 500
    with pytest.raises(StoreUnavailable, match=r"answers 500 \(InternalError\) after every retry") as caught:
        backend.write("k", b"data")
    assert behaviour.num_requests == 1 + 3 and "verysecret" not in str(caught.value)


@pytest.mark.parametrize("answers", [[500], [503, 500], [429, 502, 504], [0], [0, 500, 0]])
def test_passing_failures_are_retried(flawed_server: tuple[Behaviour, S3Backend], answers: list[int]) -> None:
    behaviour, backend = flawed_server
    behaviour.answers = list(answers)
    backend.write("k", b"data")
    behaviour.answers = list(answers)
    found = backend.read("k", 10)
    assert found is not None and found.data == b"data"


def test_a_won_name_whose_answer_was_lost_is_still_won(flawed_server: tuple[Behaviour, S3Backend]) -> None:
    behaviour, backend = flawed_server
    behaviour.answers = [0]
    backend.write("named/a", b"mine", Condition(if_absent=True))
    behaviour.answers = [500]
    with pytest.raises(NameTaken):
        backend.write("named/a", b"other", Condition(if_absent=True))


def test_an_upload_that_was_cut_short_is_noticed_and_not_left_visible(flawed_server: tuple[Behaviour, S3Backend]) -> None:
    behaviour, backend = flawed_server
    behaviour.cut_bytes = 1
    with pytest.raises(StoreError, match="the store kept 3 bytes of 4: the upload was cut short"):
        backend.write("k", b"data")
    assert behaviour.objects == {}


def test_a_server_that_is_not_there_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    backend = S3Backend(S3Address(endpoint, "bucket", "", "key", "verysecret"), FAST_RETRIES)
    for work in (lambda: backend.read("k", 1), lambda: backend.write("k", b""), lambda: list(backend.list(""))):
        with pytest.raises(StoreUnavailable, match="does not answer") as caught:
            work()
        assert endpoint in str(caught.value) and "verysecret" not in str(caught.value)


def test_wrong_credentials_are_named_and_not_shown(s3_server: S3Server) -> None:
    for wrong in ({"AWS_SECRET_ACCESS_KEY": "verysecret"}, {"AWS_ACCESS_KEY_ID": "nobody"}):
        store = open_store(f"s3://{BUCKET}/x", s3_server.environment | wrong)
        for work in (store.check, lambda store=store: store.get_named("a"), lambda store=store: store.list_named("")):
            with pytest.raises(StoreAccessDenied, match=r"store\.credentials") as caught:
                work()
            assert "verysecret" not in str(caught.value) and s3_server.secret_key not in str(caught.value)


def test_a_read_only_identity_reads_and_is_refused_to_write(s3_server: S3Server, s3_store: Store) -> None:
    digest = s3_store.put_bytes(b"data")
    prefix = s3_store.url.removeprefix("s3://").split("/")[1]
    reader = open_store(f"s3://{BUCKET}/{prefix}", s3_server.environment | {"AWS_ACCESS_KEY_ID": "reader"})
    assert reader.read_bytes(digest, 4) == b"data"
    with pytest.raises(StoreAccessDenied, match="must allow to write"):
        reader.put_bytes(b"more")
    with pytest.raises(StoreAccessDenied, match="must allow to delete"):
        reader.delete_named("a")
    assert s3_store.exists(digest)


def test_a_bucket_that_does_not_exist_is_named(s3_server: S3Server, tmp_path: Path) -> None:
    store = open_store("s3://no-such-bucket/x", s3_server.environment)
    (tmp_path / "large").write_bytes(b"x" * (9 << 20))
    for work in (lambda: store.get_named("a"), store.check, lambda: store.put_file(tmp_path / "large"), lambda: store.list_named("")):
        with pytest.raises(StoreError, match="names a bucket that does not exist"):
            work()


def test_a_file_that_changes_while_it_is_stored_is_never_visible(store: Store, tmp_path: Path) -> None:
    path, size = tmp_path / "large", 17 << 20
    path.write_bytes(b"a" * size)
    expected = digest_bytes(b"b" * size)
    with pytest.raises(PayloadChanged, match="must not change while it is stored"):
        store.backend.write_file("blobs/large", path, expected)
    path.write_bytes(b"b" * (size - 1))
    with pytest.raises(PayloadChanged):
        store.backend.write_file("blobs/large", path, expected)
    assert store.backend.stat("blobs/large") is None and list(store.backend.list("blobs/")) == []


def test_an_object_of_many_parts_is_stored_whole(s3_store: Store, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"".join(bytes([index]) * (3 << 20) for index in range(6)))
    digest = s3_store.put_file(path)
    s3_store.get(digest, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == path.read_bytes()
