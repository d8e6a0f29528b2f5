"""The store in an S3 bucket: signed requests for single objects, the minio SDK for large files, listings and copies."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from imagewright.errors import Problem
from imagewright.storage.backend import Condition, NamedObject, ObjectInfo
from imagewright.storage.digests import FileDigest
from imagewright.storage.errors import StoreError
from imagewright.storage.http_connections import Answer, ConnectionBroken
from imagewright.storage.local_backend import explain_os_error, name_taken, too_large
from imagewright.storage.s3_refusal import no_answer, refusal
from imagewright.storage.s3_requests import RETRIES, Retries, S3Address, SignedRequests

if TYPE_CHECKING:
    from imagewright.storage.s3_bulk import BulkOperations

RANGE_BYTES = 16 << 20
NUM_PARALLEL_RANGES = 4
_MD5_ETAG = re.compile(r"[0-9a-f]{32}")
_ERROR_CODE = re.compile(rb"<Code>(\w+)</Code>")
_ACTIONS = {"GET": "read", "HEAD": "read", "PUT": "write", "DELETE": "delete"}


class S3Backend:
    """Keys live below the address's prefix. An etag is the server's own, without quotes."""

    num_workers = 16

    def __init__(self, address: S3Address, retries: Retries = RETRIES) -> None:
        self._address, self._retries = address, retries
        self._prefix = f"{address.prefix.strip('/')}/" if address.prefix.strip("/") else ""
        self._requests = SignedRequests(address, retries)
        self._bucket_is_known = False

    @property
    def url(self) -> str:
        """`s3://bucket/prefix` and the endpoint."""
        return f"s3://{self._address.bucket}/{self._prefix} at {self._address.endpoint}"

    @cached_property
    def _bulk(self) -> BulkOperations:
        from imagewright.storage.s3_bulk import BulkOperations

        return BulkOperations(self._address, self.url, self.num_workers, self._retries)

    def read(self, key: str, limit_bytes: int) -> NamedObject | None:
        """See Backend. One byte more than the limit is asked for, so an oversized object is never loaded."""
        response = self._request("GET", key, headers={"Range": f"bytes=0-{limit_bytes}"})
        if response.status == 404:
            return None
        if response.status == 416:
            return NamedObject(b"", _etag(response.headers))
        if len(response.data) > limit_bytes:
            raise too_large(key, limit_bytes)
        return NamedObject(response.data, _etag(response.headers))

    def read_range(self, key: str, start: int, length: int) -> bytes | None:
        """See Backend."""
        if length <= 0:
            return b""
        response = self._request("GET", key, headers={"Range": f"bytes={start}-{start + length - 1}"})
        if response.status == 404:
            return None
        if response.status == 416:
            return b""
        return response.data if response.status == 206 else response.data[start : start + length]

    def download(self, key: str, path: Path) -> bool:
        """See Backend. Parts are fetched in parallel ranges."""
        info = self.stat(key)
        if info is None:
            return False
        try:
            with path.open("wb") as file, ThreadPoolExecutor(NUM_PARALLEL_RANGES) as pool:

                def fetch(start: int) -> None:
                    part = self.read_range(key, start, RANGE_BYTES) or b""
                    while part:
                        written = os.pwrite(file.fileno(), part, start)
                        part, start = part[written:], start + written

                for _ in pool.map(fetch, range(0, info.size_bytes, RANGE_BYTES)):
                    pass
        except OSError as error:
            raise explain_os_error(error, "write", str(path)) from error
        return True

    def write(self, key: str, data: bytes, condition: Condition | None = None) -> str:
        """See Backend. The server checks the body against its SHA-256 and MD5; the etag it returns is checked here."""
        md5 = hashlib.md5(data, usedforsecurity=False)
        headers = {"Content-MD5": base64.b64encode(md5.digest()).decode()}
        if condition and condition.if_absent:
            headers["If-None-Match"] = "*"
        elif condition and condition.if_match is not None:
            headers["If-Match"] = f'"{condition.if_match}"'
        response = self._request("PUT", key, headers=headers, body=data)
        if response.status in (404, 409, 412):
            return self._settle_conditional_write(key, data, response)
        etag = _etag(response.headers)
        if etag != md5.hexdigest():
            self._check_upload(key, len(data), "" if _MD5_ETAG.fullmatch(etag) is None else etag)
        return etag

    def _settle_conditional_write(self, key: str, data: bytes, response: Answer) -> str:
        """A refused write after a retry may be our own first attempt, whose answer was lost: then it was won."""
        was_retried = response.num_attempts > 1
        current = self.read(key, len(data)) if was_retried and response.status != 404 else None
        if current is not None and current.data == data:
            return current.etag
        raise name_taken(key)

    def write_file(self, key: str, path: Path, expected: FileDigest) -> None:
        """See Backend. Large files go up in parallel parts, and become visible when the last one is confirmed."""
        self._require_bucket()
        self._bulk.put_file(self._prefix + key, path, expected)
        self._check_upload(key, expected.size_bytes)

    def _check_upload(self, key: str, size_bytes: int, unexpected_etag: str = "") -> None:
        """Compares the size the store kept. An object cut short is removed: nobody may find it under its digest."""
        info = self.stat(key)
        if info is not None and info.size_bytes == size_bytes:
            return
        kept = "nothing" if info is None else f"{info.size_bytes} bytes"
        if info is not None and (not unexpected_etag or info.etag == unexpected_etag):
            self.delete(key)
        rule = f"the store kept {kept} of {size_bytes}: the upload was cut short"
        raise StoreError(Problem("store.put", rule, self.url, "try again, and look at what lies between here and the store"))

    def stat(self, key: str) -> ObjectInfo | None:
        """See Backend."""
        response = self._request("HEAD", key, headers={})
        if response.status == 404:
            return None
        date = response.headers.get("last-modified")
        modified = parsedate_to_datetime(date).astimezone(UTC) if date else datetime.now(UTC)
        return ObjectInfo(key, int(response.headers.get("content-length", "0")), _etag(response.headers), modified)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See Backend."""
        self._require_bucket()
        for found in self._bulk.list(self._prefix + prefix):
            yield replace(found, key=found.key.removeprefix(self._prefix))

    def delete(self, key: str) -> None:
        """See Backend."""
        self._request("DELETE", key, headers={})

    def touch(self, key: str) -> bool:
        """See Backend."""
        return self._bulk.touch(self._prefix + key)

    def remove_partial(self, older_than: datetime) -> int:
        """See Backend. Always 0: the SDK cannot list unfinished multipart uploads; a lifecycle rule of the bucket ends them."""
        return 0

    def _require_bucket(self) -> None:
        """Asks once: some servers (SeaweedFS) create a mistyped bucket at the first write, and find nothing in it at a read."""
        if self._bucket_is_known:
            return
        try:
            response = self._requests.send("HEAD", "", headers={})
        except ConnectionBroken as error:
            raise no_answer(self.url, error.reason) from error
        if response.status == 404:
            raise refusal(self.url, "find", 404, "NoSuchBucket")
        self._bucket_is_known = True  # any other refusal is repeated by the request that follows

    def _request(self, method: str, key: str, *, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        """One signed request with the answer's body read; 404, 409, 412 and 416 are the caller's, other errors raise."""
        if method == "PUT":
            self._require_bucket()
        try:
            if body is None:
                response = self._requests.send(method, self._prefix + key, headers=headers)
            else:
                sha256 = hashlib.sha256(body).hexdigest()
                response = self._requests.send(method, self._prefix + key, headers=headers, body=body, body_sha256=sha256)
        except ConnectionBroken as error:
            raise no_answer(self.url, error.reason) from error
        if response.status < 300 or response.status in (409, 412, 416):
            return response
        code = _ERROR_CODE.search(response.data[:4096])
        name = code.group(1).decode() if code else f"HTTP {response.status}"
        if response.status == 404 and name != "NoSuchBucket":
            self._require_bucket()
            return response
        raise refusal(self.url, _ACTIONS[method], response.status, name)


def _etag(headers: Mapping[str, str]) -> str:
    return headers.get("etag", "").strip('"')
