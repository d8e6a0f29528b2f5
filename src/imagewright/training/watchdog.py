"""Heartbeats of every process and the watchdog that names the one which stalled: the others only hang in a collective."""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

EXIT_STALLED = 76
BEAT_SECONDS = 1.0


@dataclass(frozen=True)
class Beat:
    """Last sign of life of one process."""

    rank: int
    step: int
    phase: str
    time: float


class Heartbeat:
    """Writes this process's last step and phase to a file, at most once a second unless the phase changes."""

    def __init__(self, folder: Path, rank: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.rank = folder, rank
        self.last = Beat(rank, -1, "", 0.0)

    def beat(self, step: int, phase: str) -> None:
        """Says that `step` has reached `phase` (`data`, `forward`, `update`, `save`)."""
        now = time.time()
        if phase == self.last.phase and now - self.last.time < BEAT_SECONDS:
            return
        self.last = Beat(self.rank, step, phase, now)
        path = self.folder / f"process-{self.rank:05d}.json"
        partial = path.with_suffix(".partial")
        try:
            partial.write_text(json.dumps({"rank": self.rank, "step": step, "phase": phase, "time": now}), encoding="utf-8")
            partial.replace(path)
        except OSError:  # a full disk must not end training; the watchdog then sees an older beat
            return


def read_beats(folder: Path) -> list[Beat]:
    """Last beats of all processes, by rank."""
    beats = []
    for path in sorted(folder.glob("process-*.json")):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            beats.append(Beat(int(found["rank"]), int(found["step"]), str(found["phase"]), float(found["time"])))
        except (OSError, ValueError, KeyError):
            continue
    return beats


def name_stalled(beats: list[Beat], now: float, limit_seconds: float) -> list[Beat]:
    """Processes to blame: silent for the limit, at the earliest step, and (all being at one step) the first to fall silent."""
    silent = [beat for beat in beats if now - beat.time >= limit_seconds]
    if not silent:
        return []
    earliest = min(beat.step for beat in silent)
    behind = [beat for beat in silent if beat.step == earliest]
    oldest = min(beat.time for beat in behind)
    return [beat for beat in behind if beat.time - oldest < BEAT_SECONDS]


class Watchdog:
    """Ends the process when any process was silent for `limit_seconds`, after naming it and dumping every thread's stack."""

    def __init__(self, folder: Path, limit_seconds: float, end: Callable[[int], None] = os._exit) -> None:
        self.folder, self.limit_seconds, self.end = folder, limit_seconds, end
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        if self.limit_seconds > 0:
            self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()

    def watch(self) -> None:
        """Looks at the heartbeats four times per limit; those of an earlier start of this run do not count."""
        started = time.time()
        while not self.stopped.wait(self.limit_seconds / 4):
            beats = [beat for beat in read_beats(self.folder) if beat.time >= started]
            stalled = name_stalled(beats, time.time(), self.limit_seconds)
            if stalled:
                names = ", ".join(f"process {beat.rank} (step {beat.step}, {beat.phase})" for beat in stalled)
                sys.stderr.write(f"stalled for {self.limit_seconds:g} s: {names}\n")
                faulthandler.dump_traceback(file=sys.stderr)
                self.end(EXIT_STALLED)
                return
