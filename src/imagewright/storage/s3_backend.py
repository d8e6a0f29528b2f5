"""The store in an S3 bucket: the minio SDK for large files, listings and deletions, single signed requests for small objects."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.commonconfig import REPLACE, CopySource
from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError

from imagewright.errors import Problem
from imagewright.storage.backend import Condition, NamedObject, ObjectInfo
from imagewright.storage.digests import FileDigest, VerifyingReader
from imagewright.storage.errors import StoreAccessDenied, StoreError, StoreUnavailable
from imagewright.storage.local_backend import explain_os_error, name_taken, too_large
from imagewright.storage.s3_requests import RETRIES, TIMEOUT, S3Address, SignedRequests

PART_BYTES = 16 << 20
NUM_PARALLEL_PARTS = 4
_MD5_ETAG = re.compile(r"[0-9a-f]{32}")
_ERROR_CODE = re.compile(rb"<Code>(\w+)</Code>")


class S3Backend:
    """Keys live below the address's prefix. An etag is the server's own, without quotes."""

    num_workers = 16

    def __init__(self, address: S3Address, retries: urllib3.Retry = RETRIES) -> None:
        self._address = address
        self._bucket = address.bucket
        self._prefix = f"{address.prefix.strip('/')}/" if address.prefix.strip("/") else ""
        endpoint = urlsplit(address.endpoint)
        self._requests = SignedRequests(address, self.num_workers * 2, retries)
        self._client = Minio(
            endpoint=endpoint.netloc,
            access_key=address.access_key,
            secret_key=address.secret_key,
            session_token=address.session_token,
            secure=endpoint.scheme == "https",
            region=address.region,
            http_client=urllib3.PoolManager(maxsize=self.num_workers, timeout=TIMEOUT, retries=retries),
        )

    @property
    def url(self) -> str:
        """`s3://bucket/prefix` and the endpoint."""
        return f"s3://{self._bucket}/{self._prefix} at {self._address.endpoint}"

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
        with self._explained("read"), path.open("wb") as file, ThreadPoolExecutor(NUM_PARALLEL_PARTS) as pool:

            def fetch(start: int) -> None:
                os.pwrite(file.fileno(), self.read_range(key, start, PART_BYTES) or b"", start)

            for _ in pool.map(fetch, range(0, info.size_bytes, PART_BYTES)):
                pass
        return True

    def write(self, key: str, data: bytes, condition: Condition | None = None) -> str:
        """See Backend. The server checks Content-MD5; the etag it returns is checked here."""
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
        if _MD5_ETAG.fullmatch(etag) and etag != md5.hexdigest():
            self._check_size(key, len(data))
        return etag

    def _settle_conditional_write(self, key: str, data: bytes, response: urllib3.BaseHTTPResponse) -> str:
        """A refused write after a retry may be our own first attempt, whose answer was lost: then it was won."""
        was_retried = bool(response.retries and response.retries.history)
        current = self.read(key, len(data)) if was_retried and response.status != 404 else None
        if current is not None and current.data == data:
            return current.etag
        raise name_taken(key)

    def write_file(self, key: str, path: Path, expected: FileDigest) -> None:
        """See Backend. Large files go up in parallel parts, and become visible when the last one is confirmed."""
        with self._explained("write"), path.open("rb") as file:
            self._client.put_object(
                bucket_name=self._bucket,
                object_name=self._prefix + key,
                data=VerifyingReader(file, expected, str(path)),  # type: ignore[arg-type]
                length=expected.size_bytes,
                part_size=PART_BYTES,
                num_parallel_uploads=NUM_PARALLEL_PARTS,
            )
        self._check_size(key, expected.size_bytes)

    def _check_size(self, key: str, size_bytes: int) -> None:
        info = self.stat(key)
        if info is None or info.size_bytes != size_bytes:
            stored = "nothing" if info is None else f"{info.size_bytes} bytes"
            self.delete(key)
            raise StoreError(
                Problem("store.put", f"the store kept {stored} of {size_bytes}: the upload was cut short", self.url, "try again")
            )

    def stat(self, key: str) -> ObjectInfo | None:
        """See Backend."""
        try:
            with self._explained("read"):
                found = self._client.stat_object(bucket_name=self._bucket, object_name=self._prefix + key)
        except _KeyMissing:
            return None
        return ObjectInfo(key, found.size or 0, found.etag or "", found.last_modified or datetime.now(UTC))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See Backend."""
        with self._explained("list"):
            for found in self._client.list_objects(bucket_name=self._bucket, prefix=self._prefix + prefix, recursive=True):
                if found.object_name and not found.is_dir:
                    key = found.object_name.removeprefix(self._prefix)
                    yield ObjectInfo(key, found.size or 0, (found.etag or "").strip('"'), found.last_modified or datetime.now(UTC))

    def delete(self, key: str) -> None:
        """See Backend."""
        with contextlib.suppress(_KeyMissing), self._explained("delete"):
            self._client.remove_object(bucket_name=self._bucket, object_name=self._prefix + key)

    def touch(self, key: str) -> bool:
        """See Backend: a copy of the object onto itself."""
        name = self._prefix + key
        try:
            with self._explained("write"):
                self._client.copy_object(
                    bucket_name=self._bucket,
                    object_name=name,
                    source=CopySource(bucket_name=self._bucket, object_name=name),
                    metadata={"refreshed": datetime.now(UTC).isoformat()},
                    metadata_directive=REPLACE,
                )
        except _KeyMissing:
            return False
        return True

    def remove_partial(self, older_than: datetime) -> int:
        """See Backend. Always 0: the SDK cannot list unfinished multipart uploads; a lifecycle rule of the bucket ends them."""
        return 0

    def _request(self, method: str, key: str, *, headers: Mapping[str, str], body: bytes | None = None) -> urllib3.BaseHTTPResponse:
        """One signed request with the answer's body read; 404, 409, 412 and 416 are the caller's, other errors raise."""
        action = "write" if method == "PUT" else "read"
        with self._explained(action):
            if body is None:
                response = self._requests.send(method, self._prefix + key, headers=headers)
            else:
                sha256 = hashlib.sha256(body).hexdigest()
                response = self._requests.send(method, self._prefix + key, headers=headers, body=body, body_sha256=sha256)
        if response.status < 300 or response.status in (409, 412, 416):
            return response
        code = _ERROR_CODE.search(response.data[:4096])
        name = code.group(1).decode() if code else f"HTTP {response.status}"
        if response.status == 404 and name != "NoSuchBucket":
            return response
        raise self._refusal(action, response.status, name)

    @contextlib.contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        try:
            yield
        except S3Error as error:
            if error.code in ("NoSuchKey", "NoSuchObject"):
                raise _KeyMissing from error
            raise self._refusal(action, error.response.status, error.code or "") from error
        except MinioException as error:
            raise self._refusal(action, getattr(error, "status_code", None) or 500, type(error).__name__) from error
        except HTTPError as error:
            reason = getattr(error, "reason", None) or error
            problem = Problem(
                "store.url", f"does not answer ({type(reason).__name__})", self.url, "check AWS_ENDPOINT_URL and that the server runs"
            )
            raise StoreUnavailable(problem) from error
        except OSError as error:
            raise explain_os_error(error, action, self.url) from error

    def _refusal(self, action: str, status: int, code: str) -> StoreError:
        if code == "NoSuchBucket":
            return StoreError(
                Problem("store.url", "names a bucket that does not exist", self.url, "create the bucket, or correct IMAGEWRIGHT_STORE_URL")
            )
        if status in (401, 403):
            fix = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY and their rights on the bucket"
            return StoreAccessDenied(Problem("store.credentials", f"must allow to {action} ({code})", self.url, fix))
        if status >= 500:
            return StoreUnavailable(
                Problem("store.url", f"answers {status} ({code}) after {RETRIES.total} retries", self.url, "look at the server's log")
            )
        return StoreError(Problem("store.url", f"refuses to {action} ({status} {code})", self.url, "look at the server's log"))


class _KeyMissing(Exception):
    """Inside this module: the server says that there is no such key."""


def _etag(headers: Mapping[str, str]) -> str:
    return headers.get("ETag", "").strip('"')
