"""What the S3 backend leaves to the minio SDK: multipart uploads, listings and server-side copies.

A module of its own because it is imported at the first use: a cached job, which reads one name, starts without the SDK.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.commonconfig import REPLACE, CopySource
from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError

from imagewright.storage.backend import ObjectInfo
from imagewright.storage.digests import FileDigest, VerifyingReader
from imagewright.storage.http_connections import CONNECT_SECONDS, READ_SECONDS
from imagewright.storage.local_backend import explain_os_error
from imagewright.storage.s3_refusal import no_answer, refusal
from imagewright.storage.s3_requests import RETRIED_STATUSES, Retries, S3Address

PART_BYTES = 16 << 20
MAX_PARTS = 9000
NUM_PARALLEL_PARTS = 4


class BulkOperations:
    """Operations on whole object names; the caller adds and removes its prefix."""

    def __init__(self, address: S3Address, url: str, num_connections: int, retries: Retries) -> None:
        self._bucket, self._url = address.bucket, url
        endpoint = urlsplit(address.endpoint)
        self._client = Minio(
            endpoint=endpoint.netloc,
            access_key=address.access_key,
            secret_key=address.secret_key,
            session_token=address.session_token,
            secure=endpoint.scheme == "https",
            region=address.region,
            http_client=urllib3.PoolManager(
                maxsize=num_connections, timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS), retries=_of_urllib3(retries)
            ),
        )

    def put_file(self, name: str, path: Path, expected: FileDigest) -> None:
        """Uploads in parallel parts; the object appears when the last part is confirmed, and only if the file was still the same."""
        part_bytes = max(PART_BYTES, -(-expected.size_bytes // (MAX_PARTS << 20)) << 20)
        with self._explained("write"), path.open("rb") as file:
            self._client.put_object(
                bucket_name=self._bucket,
                object_name=name,
                data=VerifyingReader(file, expected, str(path)),  # type: ignore[arg-type]
                length=expected.size_bytes,
                part_size=part_bytes,
                num_parallel_uploads=NUM_PARALLEL_PARTS,
            )

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object below a prefix."""
        with self._explained("list"):
            for found in self._client.list_objects(bucket_name=self._bucket, prefix=prefix, recursive=True):
                if found.object_name and not found.is_dir:
                    modified = found.last_modified or datetime.now(UTC)
                    yield ObjectInfo(found.object_name, found.size or 0, (found.etag or "").strip('"'), modified)

    def touch(self, name: str) -> bool:
        """Copies an object onto itself, which makes it young; False when it is gone."""
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

    @contextlib.contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        try:
            yield
        except S3Error as error:
            if error.code in ("NoSuchKey", "NoSuchObject"):
                raise _KeyMissing from error
            raise refusal(self._url, action, error.response.status, error.code or "") from error
        except MinioException as error:
            raise refusal(self._url, action, getattr(error, "status_code", None) or 500, type(error).__name__) from error
        except HTTPError as error:
            raise no_answer(self._url, type(getattr(error, "reason", None) or error).__name__) from error
        except OSError as error:
            raise explain_os_error(error, action, self._url) from error


def _of_urllib3(retries: Retries) -> urllib3.Retry:
    return urllib3.Retry(
        total=retries.total,
        backoff_factor=retries.backoff_seconds / 2,  # urllib3 doubles it before its first wait
        backoff_jitter=retries.jitter_seconds,
        backoff_max=retries.max_backoff_seconds,
        status_forcelist=RETRIED_STATUSES,
        allowed_methods=None,
        raise_on_status=False,
        respect_retry_after_header=False,
        redirect=False,
    )


class _KeyMissing(Exception):
    """Inside this module: the server says that there is no such key."""
