"""Puts lines into the segments of a spool session, from a thread of its own, so that a slow or full disk never stops training."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from imagewright.tracking.spool import TORN, segment_name

MAX_BLOCK_SECONDS = 0.04
SYNC_SECONDS = 1.0
RETRY_SECONDS = 2.0
SEGMENT_BYTES = 4 << 20
# What is kept in memory while the disk refuses writes; 100,000 lines are days of a usual training run.
MAX_UNWRITTEN_LINES = 100_000


class SpoolWriter:
    """Appends lines to the segments of a session from a thread of its own.

    warn: called once, with text for a person, when the disk stops taking lines. They then wait in memory.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None], segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder, self._warn, self._segment_bytes = folder, warn, segment_bytes
        self._number, self._size, self._torn = 1, 0, False
        self._file = self._open_segment()
        self._unsynced: list[int] = []
        self._dirty = False
        lock = threading.Lock()
        self._work, self._done = threading.Condition(lock), threading.Condition(lock)
        self._file_lock, self._in_write = threading.Lock(), False
        self._pending: deque[bytes] = deque()
        self._accepted = self._settled = 0
        self._stop = threading.Event()
        self.failing = False
        self.num_dropped = 0
        self._threads = [
            threading.Thread(target=self._write_loop, name="spool-writer", daemon=True),
            threading.Thread(target=self._sync_loop, name="spool-sync", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def append(self, lines: Sequence[bytes]) -> bool:
        """Hands lines to the disk; True when they are there.

        False, after 40 ms at most, while a write hangs in the disk: then the lines are in memory and follow. A writer thread that merely
        got no processor is not waited for: after 20 ms the caller writes itself, so that starved machines lose nothing to `kill -9`.
        """
        started = time.monotonic()
        with self._work:
            if len(self._pending) + len(lines) > MAX_UNWRITTEN_LINES:
                self.num_dropped += len(lines)
                return False
            self._pending.extend(lines)
            self._accepted += len(lines)
            target = self._accepted
            self._work.notify()
        while True:
            with self._work:
                if self._done.wait_for(lambda: self._settled >= target or self.failing, timeout=MAX_BLOCK_SECONDS / 2):
                    return self._settled >= target
            if self._file_lock.acquire(blocking=False):
                try:
                    self._drain()
                finally:
                    self._file_lock.release()
            elif self._in_write and time.monotonic() - started >= MAX_BLOCK_SECONDS:
                return False

    def take_unwritten(self, limit: int) -> list[bytes]:
        """While the disk fails: removes and returns up to `limit` lines that are only in memory, for delivery past the disk."""
        with self._work:
            if not self.failing:
                return []
            count = min(limit, len(self._pending))
            self._settled += count
            return [self._pending.popleft() for _ in range(count)]

    def give_back(self, lines: Sequence[bytes]) -> None:
        """Returns lines that could not be delivered either."""
        with self._work:
            self._settled -= len(lines)
            self._pending.extendleft(reversed(lines))

    def close(self) -> None:
        """Writes and syncs what is left, as far as the disk allows."""
        self._stop.set()
        with self._work:
            self._work.notify()
        for thread in self._threads:
            thread.join(timeout=5)

    def _open_segment(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        return os.open(self._folder / segment_name(self._number), flags, 0o644)

    def _write_loop(self) -> None:
        while True:
            with self._work:
                if self.failing and not self._stop.is_set():
                    self._work.wait(RETRY_SECONDS)
                self._work.wait_for(lambda: self._pending or self._stop.is_set())
            closing = self._stop.is_set()  # asked before the write: a disk that got space just before closing gets its last try
            with self._file_lock:
                complete = self._drain()
            if closing and not (complete and self._pending):
                break
        with self._work:  # the sync thread closes it, after the last sync
            self._unsynced.append(self._file)
            self._file = -1

    def _drain(self) -> bool:
        """Writes what waits, with the file lock held; whether all of it is on disk."""
        with self._work:
            lines = list(self._pending)
            self._pending.clear()
        return not lines or self._write(lines) == len(lines)

    def _write(self, lines: Sequence[bytes]) -> int:
        """Writes whole lines, returns how many; a line cut short is marked and written again, so no line is ever half read."""
        prefix = TORN + b"\n" if self._torn else b""
        try:
            if self._size > self._segment_bytes and not self._torn:
                self._rotate()
            data = prefix + b"".join(lines)
            self._in_write = True
            size = os.write(self._file, data) - len(prefix)
            reason = "" if size == sum(map(len, lines)) else "the disk took only a part"
        except OSError as error:
            size, reason = -len(prefix), error.strerror or str(error)
        finally:
            self._in_write = False
        self._size += max(size, 0) + len(prefix)
        count = 0
        while count < len(lines) and len(lines[count]) <= size:
            size -= len(lines[count])
            count += 1
        self._torn = size != 0 and count < len(lines)
        self._settle(lines, count, reason)
        return count

    def _settle(self, lines: Sequence[bytes], count: int, reason: str) -> None:
        with self._work:
            self._pending.extendleft(reversed(lines[count:]))
            self._settled += count
            self._dirty = self._dirty or count > 0
            first = bool(reason) and not self.failing
            self.failing = bool(reason)
            self._done.notify_all()
        if first:
            self._warn(
                f"the metrics spool in {self._folder} cannot be written ({reason}); training goes on, points wait in memory and "
                f"would be lost if this process were killed; free space on that disk"
            )

    def _rotate(self) -> None:
        self._number += 1
        following = self._open_segment()
        with self._work:
            self._unsynced.append(self._file)
            self._file, self._size = following, 0

    def _sync_loop(self) -> None:
        while not self._stop.wait(SYNC_SECONDS):
            self._sync()
        self._threads[0].join(timeout=5)
        self._sync()

    def _sync(self) -> None:
        with self._work:
            files, self._unsynced = self._unsynced, []
            if self._dirty and self._file >= 0:
                files.append(os.dup(self._file))
            self._dirty = False
        for file in files:
            try:
                os.fdatasync(file)
            except OSError as error:
                self._warn(f"the metrics spool in {self._folder} could not be synced ({error.strerror}); a power cut may lose points")
            finally:
                os.close(file)
