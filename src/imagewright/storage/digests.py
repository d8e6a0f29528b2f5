"""SHA-256 (and, for DVC's layout, MD5) of bytes and files: the names under which payloads are stored."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from imagewright.errors import Problem
from imagewright.storage.errors import PayloadChanged, StoreError

CHUNK_BYTES = 1 << 20
URI_PREFIX = "imagewright://sha256/"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileDigest:
    """sha256: 64 hex digits. md5: 32 hex digits, or empty when it was not asked for. size_bytes: length of the content."""

    sha256: str
    md5: str
    size_bytes: int


def digest_bytes(data: bytes, *, with_md5: bool = False) -> FileDigest:
    """Digest of bytes in memory."""
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest() if with_md5 else ""
    return FileDigest(hashlib.sha256(data).hexdigest(), md5, len(data))


def digest_file(path: Path, *, with_md5: bool = False) -> FileDigest:
    """Digest of a file; both hashes are computed in one pass over it."""
    sha256, md5, size_bytes = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            sha256.update(chunk)
            if with_md5:
                md5.update(chunk)
            size_bytes += len(chunk)
    return FileDigest(sha256.hexdigest(), md5.hexdigest() if with_md5 else "", size_bytes)


def parse_digest(value: str) -> str:
    """The 64 hex digits of a digest or of an `imagewright://sha256/<digest>` URI. Raises StoreError for anything else."""
    digest = value.removeprefix(URI_PREFIX)
    if not _SHA256.fullmatch(digest):
        raise StoreError(Problem("digest", f"must be 64 lower-case hex digits, or {URI_PREFIX}<digest>", value, "copy it from a record"))
    return digest


class VerifyingReader:
    """Reads a file for upload and raises PayloadChanged before its last bytes are handed out if they are not what was hashed.

    An upload fed from it can therefore never publish other content under the digest.
    """

    def __init__(self, file: BinaryIO, expected: FileDigest, source: str) -> None:
        self._file, self._expected, self._source = file, expected, source
        self._sha256, self._num_read = hashlib.sha256(), 0

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes of the file; the same meaning as a file's own `read`."""
        left = self._expected.size_bytes - self._num_read
        data = self._file.read(left if size < 0 else min(size, left))
        self._sha256.update(data)
        self._num_read += len(data)
        ended = self._num_read == self._expected.size_bytes
        if (not data and not ended) or (ended and self._sha256.hexdigest() != self._expected.sha256):
            raise changed_while_storing(self._source)
        return data


def changed_while_storing(source: str) -> PayloadChanged:
    """The error for a file that did not hold still between being hashed and being uploaded."""
    return PayloadChanged(
        Problem("store.put", "a file must not change while it is stored", source, "wait until its writer is done, then store it again")
    )
