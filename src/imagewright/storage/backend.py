"""The small interface between the store and the place that holds its bytes: a local folder or an S3 bucket."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from imagewright.storage.digests import FileDigest


@dataclass(frozen=True)
class ObjectInfo:
    """key: below the store's prefix. modified: UTC time of the last write."""

    key: str
    size_bytes: int
    etag: str
    modified: datetime


@dataclass(frozen=True)
class NamedObject:
    """A small object and the tag of exactly this version of it."""

    data: bytes
    etag: str


@dataclass(frozen=True)
class Condition:
    """When a write may happen: the key must be absent, or must still carry this etag."""

    if_absent: bool = False
    if_match: str | None = None


class Backend(Protocol):
    """Bytes under keys. Every method raises StoreError subclasses only; a missing key is None, never an error."""

    num_workers: int
    """How many transfers at the same time this place serves best."""

    @property
    def url(self) -> str:
        """Address for messages, without credentials."""

    def read(self, key: str, limit_bytes: int) -> NamedObject | None:
        """A whole object; raises StoreError when it is larger than the limit."""

    def read_range(self, key: str, start: int, length: int) -> bytes | None:
        """Bytes [start, start + length) of an object, fewer at its end."""

    def download(self, key: str, path: Path) -> bool:
        """Writes an object of any size to a new file; False when it is missing. The caller verifies and renames."""

    def write(self, key: str, data: bytes, condition: Condition | None = None) -> str:
        """Writes an object in one piece and returns its etag; raises NameTaken when the condition does not hold."""

    def write_file(self, key: str, path: Path, expected: FileDigest) -> None:
        """Writes a file of any size; nothing is visible under the key before all of it is there and is what was hashed."""

    def stat(self, key: str) -> ObjectInfo | None:
        """Size, etag and age of an object."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key starts with the prefix, in no particular order."""

    def delete(self, key: str) -> None:
        """Removes an object; a missing one is fine."""

    def touch(self, key: str) -> bool:
        """Makes an object young again, so that garbage collection spares it; False when it is gone."""

    def remove_partial(self, older_than: datetime) -> int:
        """Removes what killed writers left behind, invisible to readers, before the given time; returns how many."""
