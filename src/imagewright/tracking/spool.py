"""The write-ahead spool: what a run logs is on disk before the call returns, and is read back from there for delivery.

One session folder per process that logs: `session.json` (who), `NNNNNNNN.log` segments of checksummed lines, `batches.log`
(what was sent and acknowledged), `artifacts/`. A session whose process died is found again and delivered by the next one.

What survives what: a line is handed to the kernel before `append` returns, so `kill -9` loses nothing; a background thread calls
fdatasync once a second, so a power cut loses at most that second. A sync in the caller would be safer against the power cut and
would stop training for as long as the disk pleases (hundreds of milliseconds on network disks), so it is not done there. For the same
reason the write itself happens in a thread (spool_writer.py): a caller waits
40 ms at most for a disk that hangs.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import time
import weakref
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagewright.errors import Problem
from imagewright.tracking.job_run import TrackingError

# What a line cut short by a full disk ends with once the disk takes lines again.
TORN = b"~"

Entry = dict[str, Any]


def encode(entry: Mapping[str, Any]) -> bytes:
    """One line: CRC-32 [8 hex], space, JSON, newline. Floats keep every bit (repr round-trips)."""
    body = json.dumps(entry, ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def decode(line: bytes) -> Entry | None:
    """The entry of a line without its newline, or None when the line is damaged."""
    body = line[9:]
    try:
        if line[8:9] != b" " or int(line[:8], 16) != zlib.crc32(body):
            return None
        entry = json.loads(body)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def segment_name(number: int) -> str:
    return f"{number:08d}.log"


class Session:
    """One locked session folder. The lock says whether the process that logs into it still lives."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._lock = lock
        # A forked data loader would keep the lock of a killed trainer; closing its copy leaves ours in force.
        reference = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: reference() and reference()._close_lock())  # type: ignore[union-attr]

    def _close_lock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def describe(self) -> dict[str, Any]:
        """What the session's owner wrote about itself; empty when it died before that."""
        return read_json(self.folder / "session.json")

    def bind(self, binding: Mapping[str, str]) -> None:
        """Remembers which runs the session's entries belong to, so that a replay never has to search."""
        write_json(self.folder / "bound.json", binding)

    def binding(self) -> dict[str, Any]:
        return read_json(self.folder / "bound.json")

    @property
    def events_file(self) -> Path:
        """All events of the session as JSON lines; uploaded when the session ends."""
        return self.folder / f"events-{self.folder.name}.jsonl"

    def release(self) -> None:
        """Leaves the folder to whoever opens it next."""
        self._close_lock()

    def remove(self) -> None:
        """Deletes a delivered session."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._close_lock()


def new_session(spool: Path, description: Mapping[str, Any]) -> Session:
    """Makes and locks a session folder below `spool`. Raises TrackingError when the disk does not take it."""
    folder = spool / f"{time.time_ns():020d}-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True)
        session = lock_session(folder)
        assert session is not None, "a fresh session folder is locked by nobody"
        write_json(folder / "session.json", description)
    except OSError as error:
        raise TrackingError(
            Problem(
                "spool", f"cannot be written: {error.strerror}", str(spool), "give the job a work folder on a writable disk with free space"
            )
        ) from error
    return session


def abandoned_sessions(spool: Path) -> list[Session]:
    """Sessions left by processes that are gone, oldest first, locked for the caller."""
    folders = sorted(folder for folder in spool.glob("*-*") if folder.is_dir()) if spool.is_dir() else []
    return [session for folder in folders if (session := lock_session(folder)) is not None]


def lock_session(folder: Path) -> Session | None:
    """Takes the session's lock, or None while its owner lives."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return Session(folder, lock)


def read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a small JSON file that is either the old or the new one, never half."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value))
    temporary.replace(path)
