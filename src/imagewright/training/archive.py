"""Copies checkpoints to the store while training goes on, and brings the newest back to a machine that has none.

The work folder may die with its machine; what was copied does not. A copy never delays a step and a failed one never ends training.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from imagewright.errors import InputError
from imagewright.storage import Store

PREFIX = "checkpoints/"
"""Names of the newest copies in the store; the garbage collector lets them age like records of runs."""

EventLog = Callable[[str, str], None]


@dataclass(frozen=True)
class ArchivePlace:
    """Where a job's checkpoints are copied to: the name is derived from its action key, so the same job finds them again anywhere."""

    store: Store
    name: str

    def part(self, name: str) -> ArchivePlace:
        """The place of one of several trainings of a job."""
        return ArchivePlace(self.store, f"{self.name}/{name}")


def part_of(place: ArchivePlace | None, name: str) -> ArchivePlace | None:
    """The place of one of several trainings of a job, where the job has one."""
    return place.part(name) if place is not None else None


class CheckpointArchive:
    """The copies of one training run's checkpoints. Offers made while a copy is under way replace each other: the newest is copied next."""

    def __init__(self, place: ArchivePlace, staging: Path, on_event: EventLog) -> None:
        """staging: a folder on the checkpoints' own file system, for hard links that outlive their deletion."""
        self.place, self.staging, self.on_event = place, staging, on_event
        self.lock = threading.Lock()
        self.pending: tuple[int, Path] | None = None
        self.thread: threading.Thread | None = None
        shutil.rmtree(staging, ignore_errors=True)

    @property
    def entry(self) -> str:
        """Name of the entry that names the newest copy."""
        return f"{PREFIX}{self.place.name}.json"

    def offer(self, step: int, checkpoint: Path) -> None:
        """Links a committed checkpoint aside and returns; a thread copies it."""
        linked = self.staging / f"step-{step:08d}-{uuid.uuid4().hex[:8]}"
        try:
            shutil.copytree(checkpoint, linked, copy_function=os.link)
        except (OSError, shutil.Error) as error:
            self.on_event("checkpoint_copy_failed", str(error))
            shutil.rmtree(linked, ignore_errors=True)
            return
        with self.lock:
            if self.pending is not None:
                shutil.rmtree(self.pending[1], ignore_errors=True)
            self.pending = (step, linked)
            if self.thread is None:
                self.thread = threading.Thread(target=self.work, name="checkpoint-archive", daemon=True)
                self.thread.start()

    def work(self) -> None:
        """Copies until nothing is pending."""
        while True:
            with self.lock:
                taken, self.pending = self.pending, None
                if taken is None:
                    self.thread = None
                    return
            self.copy(*taken)

    def copy(self, step: int, linked: Path) -> None:
        """Stores one checkpoint, then names it; until then the entry names the copy before it."""
        try:
            digest = self.place.store.put_folder(linked)
            self.place.store.put_named(self.entry, json.dumps({"step": step, "digest": digest}).encode())
        except (InputError, OSError) as error:
            self.on_event("checkpoint_copy_failed", f"step {step}: {error}")
        finally:
            shutil.rmtree(linked, ignore_errors=True)

    def wait(self, seconds: float) -> bool:
        """Waits for copies under way, at most so long; whether all are done."""
        with self.lock:
            thread = self.thread
        if thread is not None:
            thread.join(seconds)
        return thread is None or not thread.is_alive()

    def fetch(self, folder: Path, present: int) -> bool:
        """Brings the newest copy into the checkpoint folder when it is newer than step `present`; whether it did.

        A store that fails is an event where there is a checkpoint to go on from; without one the StoreError passes through: starting over
        in silence would throw work away.
        """
        try:
            found = self.place.store.get_named(self.entry)
            if found is None:
                return False
            content = json.loads(found.data)
            step = int(content["step"])
            if step <= present:
                return False
            self.place.store.get(str(content["digest"]), folder / f"step-{step:08d}")
        except InputError as error:
            if present < 0:
                raise
            self.on_event("checkpoint_fetch_failed", str(error))
            return False
        self.on_event("checkpoint_fetched", f"step {step}, from the store")
        return True
