"""Signed requests for single objects, below the S3 backend: what the minio SDK cannot send, and what must cost little.

The SDK's `put_object` has no `If-None-Match` and `If-Match`, which names and leases stand on, and takes several times the
processor time of the request itself, which decides how fast many small files move.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import quote, urlsplit

from imagewright.storage.aws_signature import EMPTY_SHA256, signed_headers, utc_now
from imagewright.storage.http_connections import Answer, ConnectionBroken, Connections

RETRIED_STATUSES = (429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Retries:
    """How often a request is sent again after a 5xx, a timeout or a reset; the waits before are 0, then backoff * 1, 2, 4 ... + jitter."""

    total: int = 6
    backoff_seconds: float = 0.4
    jitter_seconds: float = 0.3
    max_backoff_seconds: float = 10.0

    def wait_seconds(self, num_failed: int) -> float:
        """Before the next attempt, after this many failed; the first follows at once, since a kept connection may just have ended."""
        if num_failed <= 1:
            return 0.0
        return min(self.backoff_seconds * 2.0 ** (num_failed - 2) + random.uniform(0, self.jitter_seconds), self.max_backoff_seconds)


RETRIES = Retries()


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

    def __init__(self, address: S3Address, retries: Retries = RETRIES) -> None:
        self._address, self._retries = address, retries
        self._fixed = {"Host": urlsplit(address.endpoint).netloc}
        if address.session_token:
            self._fixed["x-amz-security-token"] = address.session_token
        self._connections = Connections(address.endpoint)

    def send(
        self, method: str, object_name: str, *, headers: Mapping[str, str], body: bytes | None = None, body_sha256: str = EMPTY_SHA256
    ) -> Answer:
        """The last answer, whatever its status. Raises ConnectionBroken when there was none and every retry is spent."""
        path = f"/{self._address.bucket}/{quote(object_name, safe='/~')}"
        for attempt in range(1, self._retries.total + 2):
            is_last = attempt > self._retries.total
            try:
                answer = self._connections.request(method, path, self._signed(method, path, headers, body_sha256), body)
            except ConnectionBroken as error:
                if is_last or error.is_final:
                    raise
            else:
                if is_last or answer.status not in RETRIED_STATUSES:
                    return replace(answer, num_attempts=attempt) if attempt > 1 else answer
            time.sleep(self._retries.wait_seconds(attempt))
        raise AssertionError("the last attempt returns or raises")

    def _signed(self, method: str, path: str, headers: Mapping[str, str], body_sha256: str) -> dict[str, str]:
        return signed_headers(
            method,
            path,
            {**self._fixed, **headers},
            body_sha256=body_sha256,
            access_key=self._address.access_key,
            secret_key=self._address.secret_key,
            region=self._address.region,
            now=utc_now(),
        )
