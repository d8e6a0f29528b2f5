"""Backups of files from outside the store, such as MLflow's database: a payload, and a named object that keeps it from being collected."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from imagewright.config.base import Section
from imagewright.errors import Problem
from imagewright.storage.errors import StoreError
from imagewright.storage.moved import refuse_moved
from imagewright.storage.store import Store

PREFIX = "backups/"
SQLITE_HEADER = b"SQLite format 3\0"
NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")


class Backup(Section):
    """One saved file."""

    name: str
    """What was saved, for example `mlflow`."""
    saved: str
    """When, in UTC, as `20260131T023000.000000Z`; sorts by time."""
    digest: str
    """Payload in the store."""
    size_bytes: int
    """Size of the file."""

    @property
    def key(self) -> str:
        """Name of the object that keeps the payload."""
        return f"{PREFIX}{self.name}/{self.saved}"


def save_backup(store: Store, name: str, path: Path, keep: int, now: datetime | None = None) -> Backup:
    """Store a file and then forget all but the newest `keep` backups of this name; their payloads fall to garbage collection.

    Of an SQLite database a consistent snapshot is stored, whoever writes to it meanwhile.
    Raises StoreError for a wrong name, an empty or missing file, or a store that cannot be written.
    """
    check_name(name)
    if keep < 1:
        raise StoreError(Problem("backup.keep", "must be at least 1", keep, "keep at least the backup that is being made"))
    size = path.stat().st_size if path.is_file() else 0
    if not size:
        # A dump that failed leaves an empty file; saving it would push out a whole one.
        raise StoreError(Problem("backup.file", "must be a file that is not empty", str(path), "look at what should have written it"))
    refuse_moved(store)
    stamp = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%S.%fZ")
    with _at_rest(path) as still:
        backup = Backup(name=name, saved=stamp, digest=store.put_file(still), size_bytes=still.stat().st_size)
    store.put_named(backup.key, backup.model_dump_json().encode(), if_absent=True)
    for older in list_backups(store, name)[keep:]:
        store.delete_named(older.key)
    return backup


def list_backups(store: Store, name: str) -> list[Backup]:
    """Return the backups of this name, newest first. Raises StoreError when an entry is damaged."""
    check_name(name)
    found = []
    for key in sorted(store.list_named(f"{PREFIX}{name}/"), reverse=True):
        entry = store.get_named(key)
        if entry is None:
            continue
        try:
            found.append(Backup.model_validate_json(entry.data))
        except ValidationError as error:
            raise StoreError(Problem(key, "is not a backup entry", fix="delete this object and list again")) from error
    return found


def restore_backup(store: Store, name: str, destination: Path, saved: str = "") -> Backup:
    """Write a backup to a file, verified, and return it; the newest unless `saved` names another. Raises StoreError."""
    known = list_backups(store, name)
    chosen = next((backup for backup in known if saved in ("", backup.saved)), None)
    if chosen is None:
        times = ", ".join(backup.saved for backup in known[:5]) or "none"
        raise StoreError(Problem(f"backup {name}", "does not exist", saved or None, f"saved: {times}"))
    if destination.exists():
        raise StoreError(Problem("backup.destination", "exists already", str(destination), "name a new file"))
    store.get(chosen.digest, destination)
    return chosen


@contextlib.contextmanager
def _at_rest(path: Path) -> Iterator[Path]:
    """The file itself, or a snapshot of an SQLite database, whose file alone may lack what its log holds."""
    with path.open("rb") as file:
        if file.read(len(SQLITE_HEADER)) != SQLITE_HEADER:
            yield path
            return
    with tempfile.TemporaryDirectory(prefix="backup-") as folder:
        snapshot = Path(folder) / path.name
        try:
            with contextlib.closing(sqlite3.connect(path)) as live, contextlib.closing(sqlite3.connect(snapshot)) as copy:
                live.backup(copy)
        except sqlite3.Error as error:
            raise StoreError(Problem("backup.file", f"cannot be read: {error}", str(path), "check the database")) from error
        yield snapshot


def check_name(name: str) -> None:
    """Raise StoreError unless the name is lower-case letters, digits and hyphens."""
    if not NAME.fullmatch(name):
        raise StoreError(Problem("backup.name", "must be lower-case letters, digits and hyphens", name, "for example mlflow"))
