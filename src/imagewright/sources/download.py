"""Downloads one URL within limits on size and time, never from a private address, every redirect checked again."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from imagewright.data.images import BadImage

MAX_REDIRECTS = 5
CHUNK_BYTES = 64 << 10
REDIRECTS = frozenset({301, 302, 303, 307, 308})

Resolver = Callable[[str, int], list[str]]


def resolve(host: str, port: int) -> list[str]:
    """Addresses of a host."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def is_public(address: str) -> bool:
    """True for an address of the public internet: not private, loopback, link-local, multicast, reserved or mapped to one of these."""
    found = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_global and not found.is_multicast


@dataclass(frozen=True)
class Downloader:
    """Gets bytes of http and https URLs."""

    max_bytes: int
    max_seconds: float
    resolver: Resolver = resolve
    is_allowed: Callable[[str], bool] = is_public

    def get(self, url: str) -> bytes:
        """Bytes of the final answer. Raises BadImage: url_scheme, private_address, download_failed, too_many_redirects, too_many_bytes,
        too_slow.
        """
        end = time.monotonic() + self.max_seconds
        for _ in range(MAX_REDIRECTS + 1):
            try:
                status, location, data = self.request(url, end)
            except (OSError, ValueError, http.client.HTTPException) as error:
                if isinstance(error, BadImage):
                    raise
                raise BadImage("too_slow" if isinstance(error, TimeoutError) else "download_failed", str(error)[:200]) from error
            if status not in REDIRECTS:
                if status != http.client.OK:
                    raise BadImage("download_failed", f"status {status}")
                return data
            url = urljoin(url, location)
        raise BadImage("too_many_redirects", url)

    def request(self, url: str, end: float) -> tuple[int, str, bytes]:
        """One request without redirects: (status, location, body)."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadImage("url_scheme", parts.scheme)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        addresses = self.resolver(parts.hostname, port)
        if not addresses or not all(self.is_allowed(address) for address in addresses):
            raise BadImage("private_address", parts.hostname)
        connection = self.connect(parts.scheme, parts.hostname, addresses[0], port, end)
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", path, headers={"User-Agent": "imagewright", "Accept": "image/*", "Accept-Encoding": "identity"})
            response = connection.getresponse()
            return response.status, response.getheader("Location", ""), self.read(response, connection, end)
        finally:
            connection.close()

    def connect(self, scheme: str, host: str, address: str, port: int, end: float) -> http.client.HTTPConnection:
        """A connection to the very address that was checked: a second look-up could answer another one."""
        left = remaining(end)
        raw = socket.create_connection((address, port), timeout=left)
        if scheme == "https":
            raw = ssl.create_default_context().wrap_socket(raw, server_hostname=host)
        connection = http.client.HTTPConnection(host, port, timeout=left)
        connection.sock = raw
        return connection

    def read(self, response: http.client.HTTPResponse, connection: http.client.HTTPConnection, end: float) -> bytes:
        """The body, at most max_bytes, before the deadline."""
        data = bytearray()
        while True:
            left = remaining(end)
            if connection.sock is not None:
                connection.sock.settimeout(left)
            chunk = response.read1(CHUNK_BYTES)
            if not chunk:
                return bytes(data)
            data += chunk
            if len(data) > self.max_bytes:
                raise BadImage("too_many_bytes", f"over {self.max_bytes}")


def remaining(end: float) -> float:
    """Seconds left. Raises TimeoutError when there are none."""
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("download took too long")
    return left
