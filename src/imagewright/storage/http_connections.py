"""HTTP/1.1 over kept-open connections, below the signed requests of the S3 backend.

urllib3 takes about 0.4 ms of processor time for a request and holds Python's lock for it, more than the server takes to answer one
for a small file; here a request is one send, its answer mostly one receive, and headers are split instead of parsed as mail.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from typing import cast
from urllib.parse import urlsplit

CONNECT_SECONDS = 10.0
READ_SECONDS = 120.0
MAX_LINE_BYTES = 64 << 10
MAX_HEADERS = 200
MAX_BODY_BYTES = 1 << 30
RECEIVE_BYTES = 64 << 10


class ConnectionBroken(Exception):
    """The server could not be reached, broke off, or did not speak HTTP. reason: one word for a person."""

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.is_final = reason, is_final


@dataclass(frozen=True)
class Answer:
    """headers: by lower-case name. data: the whole body. num_attempts: how often the request was sent."""

    status: int
    headers: Mapping[str, str]
    data: bytes
    num_attempts: int = 1


class Connections:
    """Connections to one endpoint; every request takes one that is free, or opens another. Safe to share between threads."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        assert parts.hostname is not None
        self._host, self._port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._free: list[_Connection] = []
        self._process = os.getpid()

    def request(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """Sends a request once and reads its answer. headers must hold Host. Raises ConnectionBroken; the server may have done the work."""
        connection = self._take()
        try:
            answer, is_reusable = connection.exchange(method, target, headers, body)
        except (OSError, ValueError) as error:
            connection.close()
            self._close_free()  # a server that ended one idle connection has ended the others as well
            raise ConnectionBroken(type(error).__name__) from error
        except BaseException:
            connection.close()
            raise
        if is_reusable:
            self._free.append(connection)
        else:
            connection.close()
        return answer

    def _close_free(self) -> None:
        free, self._free = self._free, []
        for connection in free:
            connection.close()

    def _take(self) -> _Connection:
        if self._process != os.getpid():  # a forked process must not speak on its parent's connections
            self._free, self._process = [], os.getpid()
        try:
            return self._free.pop()
        except IndexError:
            pass
        try:
            return _Connection(self._host, self._port, self._tls)
        except ssl.SSLCertVerificationError as error:
            raise ConnectionBroken(type(error).__name__, is_final=True) from error
        except OSError as error:
            raise ConnectionBroken(type(error).__name__) from error


class _Connection:
    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        plain = socket.create_connection((host, port), timeout=CONNECT_SECONDS)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = plain if tls is None else tls.wrap_socket(plain, server_hostname=host)
            self._socket.settimeout(READ_SECONDS)
        except BaseException:
            plain.close()
            raise
        self._reader = cast("BufferedReader", self._socket.makefile("rb", buffering=RECEIVE_BYTES))

    def close(self) -> None:
        """Closes the socket; what was sent stays sent."""
        self._reader.close()
        self._socket.close()

    def exchange(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> tuple[Answer, bool]:
        """One request and its answer, and whether the connection may carry another. Raises OSError and ValueError."""
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        if body is not None or method in ("PUT", "POST"):
            lines.append(f"Content-Length: {len(body or b'')}")
        assert not any("\r" in line or "\n" in line for line in lines), "a header must be one line"
        self._socket.sendall("\r\n".join([*lines, "\r\n"]).encode("latin-1") + (body or b""))
        status, version = 100, b""
        while 100 <= status < 200:
            version, status = self._read_status()
            answered = self._read_headers()
        data, ends_at_close = self._read_body(method, status, answered)
        closes = answered.get("connection", "").lower() == "close" or version != b"HTTP/1.1"
        return Answer(status, answered, data), not (closes or ends_at_close)

    def _read_status(self) -> tuple[bytes, int]:
        line = self._line()
        parts = line.split(None, 2)
        if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or len(parts[1]) != 3:
            raise ConnectionResetError("the server closed the connection" if not line else "the answer is not HTTP")
        return parts[0], int(parts[1])

    def _read_headers(self) -> dict[str, str]:
        found: dict[str, str] = {}
        while line := self._line().rstrip(b"\r\n"):
            name, colon, value = line.partition(b":")
            if not colon or len(found) >= MAX_HEADERS:
                raise ValueError("the headers of the answer are not HTTP")
            found[name.decode("latin-1").lower()] = value.decode("latin-1").strip()
        return found

    def _read_body(self, method: str, status: int, headers: Mapping[str, str]) -> tuple[bytes, bool]:
        """The body, and whether only the end of the connection told where it ends."""
        if method == "HEAD" or status in (204, 304):
            return b"", False
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return self._read_chunks(), False
        if "content-length" not in headers:
            data = self._reader.read(MAX_BODY_BYTES + 1)
            if len(data) > MAX_BODY_BYTES:
                raise ValueError("the answer is too long")
            return data, True
        return self._exactly(int(headers["content-length"])), False

    def _read_chunks(self) -> bytes:
        chunks, total = [], 0
        while size := int(self._line().split(b";")[0], 16):
            total += size
            chunks.append(self._exactly(size if total <= MAX_BODY_BYTES else -1))
            self._line()
        self._read_headers()
        return b"".join(chunks)

    def _exactly(self, size: int) -> bytes:
        if not 0 <= size <= MAX_BODY_BYTES:
            raise ValueError("the answer is too long")
        data = self._reader.read(size)
        if len(data) != size:
            raise ConnectionResetError("the server closed the connection")
        return data

    def _line(self) -> bytes:
        line = self._reader.readline(MAX_LINE_BYTES)
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the server closed the connection")
        return line
