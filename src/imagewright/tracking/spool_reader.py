"""Reads a spool session back in batches and remembers on disk which were sent and which were acknowledged.

A batch's boundaries are written down before it is sent, so a replay after a crash sends the same bytes again, and a SQL-backed server
stores every identical point once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from imagewright.tracking.spool import TORN, Entry, decode, encode, segment_name

MAX_POINTS = 1000  # MLflow's limit for one log_batch
READ_BYTES = 1 << 20


@dataclass
class Batch:
    """Consecutive entries of one kind for one run, and the place [begin, end) in bytes they were read from."""

    segment: int
    begin: int
    end: int
    entries: list[Entry] = field(default_factory=list)

    @property
    def num_points(self) -> int:
        return sum(map(points_in, self.entries))


def points_in(entry: Entry) -> int:
    """Metric points in one entry."""
    return len(entry["v"]) if entry.get("k") == "m" else 0


class SpoolReader:
    """The cursor of one session. `next_batch`, then `acknowledge`; the same batch comes again until it is acknowledged."""

    def __init__(self, folder: Path, max_points: int = MAX_POINTS) -> None:
        self._folder, self._max_points = folder, max_points
        self._segment, self._position, self._fixed_end = 1, 0, 0
        self._current: Batch | None = None
        self.num_damaged = 0
        self._restore()
        self._log = os.open(folder / "batches.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def close(self) -> None:
        os.close(self._log)

    def next_batch(self) -> Batch | None:
        """The next entries to send, at most `max_points` metric points of one destination; None when all complete lines are read."""
        if self._current is None:
            self._current = self._collect()
            if self._current is not None and not self._fixed_end:
                self._note("sent", self._current)
        return self._current

    def acknowledge(self) -> None:
        """The server has the current batch: it is never sent again, and a segment read to its end is deleted."""
        batch = self._current
        assert batch is not None, "only a batch that was handed out can be acknowledged"
        self._note("stored", batch)
        self._position, self._fixed_end, self._current = batch.end, 0, None

    def _note(self, what: str, batch: Batch) -> None:
        # A full disk must not stop delivery; without the note a replay may cut batches elsewhere, identical points are still stored once.
        try:
            os.write(self._log, encode({what: [batch.segment, batch.begin, batch.end]}))
        except OSError:
            return

    def _restore(self) -> None:
        path = self._folder / "batches.log"
        for line in path.read_bytes().splitlines() if path.exists() else []:
            entry = decode(line) or {}
            if "stored" in entry:
                self._segment, _, self._position = entry["stored"]
                self._fixed_end = 0
            elif "sent" in entry:
                self._segment, self._position, self._fixed_end = entry["sent"]
        while not (self._folder / segment_name(self._segment)).exists() and (self._folder / segment_name(self._segment + 1)).exists():
            self._segment, self._position, self._fixed_end = self._segment + 1, 0, 0

    def _collect(self) -> Batch | None:
        while True:
            batch = self._read_batch()
            if batch is not None and batch.entries:
                return batch
            if batch is not None:  # only damaged lines: step over them
                self._position = batch.end
                continue
            if not (self._folder / segment_name(self._segment + 1)).exists():
                return None
            finished = self._folder / segment_name(self._segment)
            if self._read_tail():  # the writer rotated between our read and our look for the next segment
                continue
            self._segment, self._position, self._fixed_end = self._segment + 1, 0, 0
            finished.unlink(missing_ok=True)

    def _read_tail(self) -> bool:
        path = self._folder / segment_name(self._segment)
        try:
            with path.open("rb") as file:
                file.seek(self._position)
                return b"\n" in file.read(READ_BYTES)
        except FileNotFoundError:
            return False

    def _read_batch(self) -> Batch | None:
        """Entries from the cursor on, or None when no complete line is there."""
        try:
            with (self._folder / segment_name(self._segment)).open("rb") as file:
                file.seek(self._position)
                block = file.read(READ_BYTES)
                while block and b"\n" not in block and (more := file.read(READ_BYTES)):
                    block += more
        except FileNotFoundError:
            return None
        batch = Batch(self._segment, self._position, self._position)
        start, num_points = 0, 0
        while (stop := block.find(b"\n", start)) >= 0:
            line = block[start:stop]
            entry = decode(line)
            if entry is None:
                self.num_damaged += not line.endswith(TORN)
            elif not self._fits(batch, entry, num_points):
                break
            else:
                batch.entries.append(entry)
                num_points += points_in(entry)
            start = stop + 1
            batch.end = self._position + start
            if self._fixed_end and batch.end >= self._fixed_end:
                break
        return batch if batch.end > batch.begin else None

    def _fits(self, batch: Batch, entry: Entry, num_points: int) -> bool:
        if not batch.entries:
            return True
        first = batch.entries[0]
        same = first["k"] == entry["k"] == "m" and first.get("to") == entry.get("to")
        return same and num_points + points_in(entry) <= self._max_points
