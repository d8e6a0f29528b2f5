"""Leases: one holder of a name at a time, renewed by a heartbeat, taken over by exactly one other when it expires."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
import uuid
from collections.abc import Callable
from types import TracebackType

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from imagewright.errors import Problem
from imagewright.storage.backend import NamedObject
from imagewright.storage.errors import LeaseLost, NameTaken, StoreError
from imagewright.storage.moved import refuse_moved
from imagewright.storage.store import Store

LEASE_PREFIX = "leases/"
HEARTBEATS_PER_TTL = 4
MIN_TTL_SECONDS = 0.2
MAX_POLL_SECONDS = 5.0


class LeaseEntry(BaseModel):
    """What lies in the store under a lease's name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    owner: str
    token: str
    """Drawn anew by every holder, so that one owner's two tries differ."""
    beat: int = Field(ge=1)
    """Counts renewals, so that every version has its own etag."""
    ttl_seconds: float = Field(gt=0)
    released: bool = False
    pins: list[str] = Field(default_factory=list)
    """Payload digests that garbage collection must spare while the lease is held."""


class Lease:
    """Context manager: waits for the name, keeps it alive from a thread, gives it up at the end.

    Expiry is judged by watching: a waiter that sees the same version for a whole ttl of its own monotonic clock takes over, so clocks
    of two machines are never compared. The holder stops believing in its lease after one ttl without a confirmed renewal.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        owner: str,
        ttl_seconds: float,
        *,
        wait_seconds: float = math.inf,
        pins: tuple[str, ...] = (),
        is_abandoned: Callable[[str], bool] | None = None,
    ) -> None:
        """wait_seconds: how long to wait for the present holder; afterwards NameTaken is raised.

        is_abandoned: tells from an owner's name that it cannot come back (its process is gone); such a lease is free at once.
        """
        if not MIN_TTL_SECONDS <= ttl_seconds < math.inf:
            raise StoreError(
                Problem("lease.ttl_seconds", f"must be at least {MIN_TTL_SECONDS}", ttl_seconds, "30 seconds suit most stores")
            )
        self.name, self.owner, self.ttl_seconds = LEASE_PREFIX + name, owner, ttl_seconds
        self._store, self._wait_seconds, self._pins = store, wait_seconds, list(pins)
        self._is_abandoned = is_abandoned or (lambda _: False)
        self._token = uuid.uuid4().hex
        self._etag, self._beat, self._valid_until, self._lost = "", 0, -math.inf, ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Lease:
        self._acquire()
        try:
            refuse_moved(self._store)  # after the lease is visible: a migration closes the store first and looks for leases then
        except StoreError:
            self._release()
            raise
        self._thread = threading.Thread(target=self._keep_alive, name=f"lease {self.name}", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if not self._lost:
            self._release()
        if kind is None:
            self.check()

    @property
    def is_lost(self) -> bool:
        """Whether the holder must stop: somebody else has the name, or the last renewal is a whole ttl ago."""
        return bool(self._lost) or time.monotonic() >= self._valid_until

    def check(self) -> None:
        """Raises LeaseLost when the lease is lost. Call it before anything that must happen only once."""
        if self.is_lost and not self._stop.is_set():
            self._lost = self._lost or f"was not renewed for {self.ttl_seconds} seconds"
        if self._lost:
            raise LeaseLost(Problem("lease", self._lost, self.name, "stop this run; the other holder goes on"))

    def _acquire(self) -> None:
        deadline = time.monotonic() + self._wait_seconds
        watched, watched_since = "", 0.0
        while True:
            asked = time.monotonic()
            current = self._store.get_named(self.name)
            entry = None if current is None else _parse(current, self.name)
            if current is not None and current.etag != watched:
                watched, watched_since = current.etag, time.monotonic()  # after the answer: never before this version was written
            expired = entry is not None and asked - watched_since >= entry.ttl_seconds
            is_free = entry is None or entry.released or expired or self._is_abandoned(entry.owner)
            if is_free and self._take(current):
                return
            if time.monotonic() >= deadline:
                holder = entry.owner if entry else "another run"
                raise NameTaken(Problem("lease", f"is held by {holder}", self.name, "wait for it, or stop that run"))
            time.sleep(min(self.ttl_seconds / HEARTBEATS_PER_TTL, max(0.0, deadline - time.monotonic()), MAX_POLL_SECONDS))

    def _take(self, current: NamedObject | None) -> bool:
        """One try: a name never used by put-if-absent, a free one over exactly the version that was seen."""
        started = time.monotonic()
        try:
            self._etag = self._write(if_match=None if current is None else current.etag)
        except NameTaken:
            return False
        self._valid_until = started + self.ttl_seconds
        return True

    def _keep_alive(self) -> None:
        while not self._stop.wait(self.ttl_seconds / HEARTBEATS_PER_TTL):
            started = time.monotonic()
            try:
                renewed = self._write_over()
            except StoreError:
                if time.monotonic() >= self._valid_until:
                    self._lost = f"could not be renewed for {self.ttl_seconds} seconds: the store does not answer"
                    return
                continue
            if not renewed:
                self._lost = "was taken over by another run"
                return
            self._valid_until = started + self.ttl_seconds

    def _release(self) -> None:
        """Marks our own version as free. S3 has no conditional delete, and a plain one could delete a successor's lease."""
        try:
            if not self._write_over(released=True):
                self._lost = "was taken over by another run"
        except StoreError as error:
            logging.getLogger(__name__).warning("%s stays until it expires: %s", self.name, error)

    def _write_over(self, *, released: bool = False) -> bool:
        """Replaces our own version; False when it is not ours any more.

        A renewal whose answer was lost leaves a version of ours that we have no etag of: it is recognised by its token.
        """
        try:
            self._etag = self._write(if_match=self._etag, released=released)
        except NameTaken:
            current = self._store.get_named(self.name)
            if current is None or _parse(current, self.name).token != self._token:
                return False
            try:
                self._etag = self._write(if_match=current.etag, released=released)
            except NameTaken:
                return False
        return True

    def _write(self, *, if_match: str | None, released: bool = False) -> str:
        self._beat += 1
        entry = LeaseEntry(
            owner=self.owner, token=self._token, beat=self._beat, ttl_seconds=self.ttl_seconds, released=released, pins=self._pins
        )
        data = json.dumps(entry.model_dump()).encode()
        return self._store.put_named(self.name, data, if_absent=if_match is None, if_match=if_match)


def live_pins(store: Store) -> set[str]:
    """Digests that held leases pin. A lease whose holder died counts as held: collecting later is safe, too early is not."""
    pins: set[str] = set()
    for name in store.list_named(LEASE_PREFIX):
        current = store.get_named(name)
        if current is not None and not (entry := _parse(current, name)).released:
            pins.update(entry.pins)
    return pins


def watch_leases(store: Store, wait: Callable[[float], None] = time.sleep) -> list[str]:
    """Owners that renew a lease or take one while we watch for the longest ttl; the rest are leases of dead holders."""

    def held() -> dict[str, tuple[str, LeaseEntry]]:
        found = {name: store.get_named(name) for name in store.list_named(LEASE_PREFIX)}
        entries = {name: (current.etag, _parse(current, name)) for name, current in found.items() if current is not None}
        return {name: (etag, entry) for name, (etag, entry) in entries.items() if not entry.released}

    before = held()
    if before:
        wait(max(entry.ttl_seconds for _, entry in before.values()))
    return sorted({entry.owner for name, (etag, entry) in held().items() if before.get(name, ("", entry))[0] != etag})


def _parse(current: NamedObject, name: str) -> LeaseEntry:
    try:
        return LeaseEntry.model_validate_json(current.data, strict=True)
    except ValidationError as error:
        raise StoreError(Problem("lease", "is not a lease entry", name, "delete it if no run uses it")) from error
