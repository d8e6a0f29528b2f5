"""Signed requests for single objects, below the S3 backend: what the minio SDK cannot send, and what must cost little.

The SDK's `put_object` has no `If-None-Match` and `If-Match`, which names and leases stand on, and takes several times the
processor time of the request itself, which decides how fast many small files move.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import urllib3

from imagewright.storage.aws_signature import EMPTY_SHA256, signed_headers, utc_now

RETRIES = urllib3.Retry(
    total=6,
    backoff_factor=0.2,
    backoff_jitter=0.3,
    backoff_max=10,
    status_forcelist=(429, 500, 502, 503, 504),
    allowed_methods=None,
    raise_on_status=False,
    respect_retry_after_header=False,
    redirect=False,
)
TIMEOUT = urllib3.Timeout(connect=10, read=120)


@dataclass(frozen=True)
class S3Address:
    """endpoint: `http(s)://host:port`. secret_key never appears in a message."""

    endpoint: str
    bucket: str
    prefix: str
    access_key: str
    secret_key: str
    session_token: str | None = None
    region: str = "us-east-1"

    def __repr__(self) -> str:
        return f"S3Address({self.endpoint}/{self.bucket}/{self.prefix})"


class SignedRequests:
    """Requests for objects of one bucket over kept-open connections, retried on 5xx, timeouts and resets."""

    def __init__(self, address: S3Address, num_connections: int, retries: urllib3.Retry = RETRIES) -> None:
        self._address = address
        self._fixed = {"Host": urlsplit(address.endpoint).netloc}
        if address.session_token:
            self._fixed["x-amz-security-token"] = address.session_token
        self._pool = urllib3.connection_from_url(address.endpoint, maxsize=num_connections, timeout=TIMEOUT, retries=retries)

    def send(
        self, method: str, object_name: str, *, headers: Mapping[str, str], body: bytes | None = None, body_sha256: str = EMPTY_SHA256
    ) -> urllib3.BaseHTTPResponse:
        """The answer with its body read, whatever its status. Raises urllib3's HTTPError once every retry is spent."""
        path = f"/{self._address.bucket}/{quote(object_name, safe='/~')}"
        signed = signed_headers(
            method,
            path,
            {**self._fixed, **headers},
            body_sha256=body_sha256,
            access_key=self._address.access_key,
            secret_key=self._address.secret_key,
            region=self._address.region,
            now=utc_now(),
        )
        return self._pool.urlopen(method, path, body=body, headers=signed, redirect=False)
