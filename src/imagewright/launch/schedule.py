"""Runs a pipeline again and again in the foreground: by the clock, or on every new revision of a dataset; one run at a time."""

from __future__ import annotations

import datetime
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from cronsim import CronSim, CronSimError

from imagewright.errors import InputError, Problem

MAX_STATE_BYTES = 1 << 16
STOP_SECONDS = 60.0


class Concurrency(Enum):
    """What happens when a run is due and the one before it has not ended."""

    queue = "queue"
    refuse = "refuse"
    replace = "replace"


class Trigger(Protocol):
    """Says when a run is due."""

    def due(self, now: datetime.datetime) -> str:
        """Why a run is due now; empty when none is. Each occasion is told once."""


class Run(Protocol):
    """A run that was started."""

    def result(self) -> int | None:
        """Exit code; None while it runs."""

    def stop(self) -> None:
        """Ends it; what it finished stays finished."""


@dataclass
class CronTrigger:
    """Five-field cron syntax in local time. Occasions missed while nobody ran the scheduler are not made up for."""

    expression: str
    start: datetime.datetime

    def __post_init__(self) -> None:
        """Raises InputError for an expression that is none, or that never comes."""
        try:
            self.times = CronSim(self.expression, self.start)
            self.next = next(self.times)
        except (CronSimError, StopIteration) as error:
            fix = "minute hour day month weekday, for example '0 3 * * *' for every night at three"
            raise InputError(Problem("--cron", "is not a time in cron syntax", self.expression, fix)) from error

    def due(self, now: datetime.datetime) -> str:
        """Told once, however many occasions passed since the last look."""
        if now < self.next:
            return ""
        at = self.next
        while self.next <= now:
            at = self.next
            self.next = next(self.times)
        return f"it is {at:%Y-%m-%d %H:%M}"


@dataclass
class RevisionTrigger:
    """A new revision of a dataset. What was seen is remembered in a file, so a revision committed while nobody looked still counts."""

    latest: Callable[[], str]
    """`name@v<n>` of the newest revision; empty when there is none yet."""
    memory: Path

    def due(self, now: datetime.datetime) -> str:
        """The first look only remembers what is there already."""
        newest = self.latest()
        if not newest:
            return ""
        seen = ""
        if self.memory.exists():
            with self.memory.open("rb") as file:
                seen = str(json.loads(file.read(MAX_STATE_BYTES)).get("seen", ""))
        if newest == seen:
            return ""
        self.memory.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.memory.with_suffix(".tmp")
        temporary.write_text(json.dumps({"seen": newest}), encoding="utf-8")
        temporary.replace(self.memory)
        return f"{newest} is new" if seen else ""


@dataclass
class Scheduler:
    """One pipeline's schedule. start(reason): starts a run. say: where every decision is told."""

    trigger: Trigger
    start: Callable[[str], Run]
    concurrency: Concurrency
    say: Callable[[str], None] = print
    running: Run | None = None
    waiting: str = ""
    """Reason of the run that starts when the current one has ended; further occasions join it."""

    def tick(self, now: datetime.datetime) -> None:
        """Looks once: takes the end of a run, starts what waited, decides about what is due."""
        if self.running is not None and (code := self.running.result()) is not None:
            self.say("the run ended well" if code == 0 else f"the run failed with exit code {code}; imagewright status says why")
            self.running = None
        if self.running is None and self.waiting:
            self.begin(self.waiting)
            self.waiting = ""
        if reason := self.trigger.due(now):
            self.decide(reason)

    def decide(self, reason: str) -> None:
        """What the concurrency policy makes of an occasion."""
        if self.running is None:
            self.begin(reason)
        elif self.concurrency is Concurrency.queue:
            self.say(f"{reason}: waits for the current run")
            self.waiting = reason
        elif self.concurrency is Concurrency.refuse:
            self.say(f"{reason}: refused, the current run has not ended")
        else:
            self.say(f"{reason}: replaces the current run")
            self.running.stop()
            self.begin(reason)

    def begin(self, reason: str) -> None:
        """Starts a run."""
        self.say(f"{reason}: starting")
        self.running = self.start(reason)

    def close(self) -> None:
        """Ends with the scheduler what it started."""
        if self.running is not None and self.running.result() is None:
            self.running.stop()


class ProcessRun:
    """A run as a process of this command line; Ctrl-C reaches it as it reaches a person's."""

    def __init__(self, arguments: Sequence[str]) -> None:
        command = [sys.executable, "-m", "imagewright.cli.main", "run", *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def result(self) -> int | None:
        """Exit code; None while it runs."""
        return self.process.poll()

    def stop(self) -> None:
        """SIGINT, as a person would; SIGKILL after a while."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
