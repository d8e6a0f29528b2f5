"""The result of an action key in the store: found while its payload is whole, written when the work is done.

A payload whose bytes were changed is found out by the job that reads it. It leaves a mark, and the next run makes the payload again and
writes its files anew; without the mark a cached step would hand on the damaged copy for ever, because its size is right.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from imagewright.errors import Problem
from imagewright.jobs.job import JobError
from imagewright.storage import Store
from imagewright.storage.errors import NameTaken, PayloadChanged
from imagewright.storage.records import Record, parse_record


@dataclass(frozen=True)
class ActionEntry:
    """What the store knows about one action key; a job without a key has none and finds nothing."""

    store: Store
    key: str

    @property
    def name(self) -> str:
        """Name of the entry in the store."""
        return f"actions/{self.key}.json"

    def read(self) -> Record | None:
        """The record, whatever became of its payload."""
        found = self.store.get_named(self.name) if self.key else None
        return None if found is None else parse_record(found.data, self.name)

    def find(self) -> Record | None:
        """The record of an earlier run whose payload is still whole; None otherwise."""
        record = self.read()
        if record is None or not record.digest:
            return record
        try:
            is_whole = self.store.exists(record.digest)
        except PayloadChanged:  # the list of a folder's files is damaged itself; making the payload again replaces it
            return None
        return record if is_whole and not is_marked(self.store, record.digest) else None

    def write(self, record: Record) -> None:
        """Makes a record the result of this key."""
        if self.key:
            self.store.put_named(self.name, record.model_dump_json().encode())

    def replace(self, earlier: Record, record: Record) -> None:
        """Puts `record` in the place of `earlier`; whoever wrote another one meanwhile keeps it."""
        current = self.store.get_named(self.name) if self.key else None
        if current is not None and parse_record(current.data, self.name) == earlier:
            with contextlib.suppress(NameTaken):
                self.store.put_named(self.name, record.model_dump_json().encode(), if_match=current.etag)

    def damaged(self) -> str:
        """Digest of this key's payload when a reader found it damaged; empty otherwise."""
        earlier = self.read()
        return earlier.digest if earlier and earlier.digest and is_marked(self.store, earlier.digest) else ""

    def put_folder(self, folder: Path, *, dvc_layout: bool) -> str:
        """Stores a payload and returns its digest; files of one that was found damaged are written over."""
        damaged = self.damaged()
        digest = self.store.put_folder(folder, dvc_layout=dvc_layout, overwrite=bool(damaged))
        if digest == damaged:
            self.store.delete_named(mark_name(damaged))
        return digest


def mark_name(digest: str) -> str:
    """Name of the mark of a damaged payload."""
    return f"damaged/{digest}"


def is_marked(store: Store, digest: str) -> bool:
    """Whether a reader found the payload damaged and nobody has made it again."""
    return store.get_named(mark_name(digest)) is not None


def report_damage(store: Store, record: Record, error: PayloadChanged) -> JobError:
    """Marks a payload as damaged; returns the error that tells a person what happens next."""
    store.put_named(mark_name(record.digest), record.job.encode())  # without the digest, which would keep the payload from being collected
    fix = f"run or resume again: {record.job} makes it anew"
    return JobError([*error.problems, Problem("job.input", "is damaged in the store and was marked", record.uri, fix)])
