"""Moves a store to another place: every object is copied, read back and compared with its digest before the old store is closed.

Objects land in an order in which nothing visible in the target lacks what it names: contents, then folders, then names.
"""

from __future__ import annotations

import contextlib
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from imagewright.errors import Problem
from imagewright.storage.backend import Backend, ObjectInfo
from imagewright.storage.digests import FileDigest, digest_bytes, digest_file
from imagewright.storage.errors import PayloadChanged, StoreError
from imagewright.storage.holes import GROUPS, NAMES, OTHER, find_holes, group_of, shortened
from imagewright.storage.leases import LEASE_PREFIX, watch_leases
from imagewright.storage.moved import FROM, PREFIX, TO, MoveSign, read_sign, write_sign
from imagewright.storage.store import Store
from imagewright.storage.transfer import Advance, run_parallel
from imagewright.storage.tree import DVC_FILES
from imagewright.storage.upload import NUM_LARGE_FILES, SMALL_BYTES

LEFT_BEHIND = tuple(f"named/{prefix}" for prefix in (LEASE_PREFIX, PREFIX, "checks/"))


@dataclass(frozen=True)
class Plan:
    """What the source holds, by group in the order of copying, and what the target holds already."""

    groups: dict[str, list[ObjectInfo]]
    present: dict[str, ObjectInfo]

    def missing(self, group: str) -> list[ObjectInfo]:
        """Objects of a group that the target lacks or holds at another size."""
        return [info for info in self.groups[group] if info.key not in self.present or self.present[info.key].size_bytes != info.size_bytes]


@dataclass
class Counts:
    """Objects and bytes of one group. present: the target had them, and they were read back and found equal."""

    num_copied: int = 0
    copied_bytes: int = 0
    num_present: int = 0
    present_bytes: int = 0


@dataclass
class MigrationReport:
    """What a migration copied and found, by group."""

    counts: dict[str, Counts] = field(default_factory=lambda: {group: Counts() for group in GROUPS})
    switched: bool = False


@dataclass(frozen=True)
class Migration:
    """One move from a source to a target. scratch: folder for copies of files over 8 MiB, four of them at a time."""

    source: Store
    target: Store
    scratch: Path | None = None
    _verified: set[str] = field(default_factory=set)
    """Keys of contents and folders that this process saw whole in the target; they never change."""

    def plan(self) -> Plan:
        """List both stores. Raises StoreError when they are one place, the target is in use, or the source has holes."""
        if self.source.url == self.target.url:
            raise StoreError(Problem("store.migrate.to", "must be another store than the source", self.target.url, "name the new address"))
        done = read_sign(self.source, TO)
        if done is not None and (done.complete or done.url != self.target.url):
            fix = "use that store, or take the move back with --cancel"
            raise StoreError(Problem("store.migrate.from", f"was moved to {done.url}", self.source.url, fix))
        present = {info.key: info for info in self.target.backend.list("") if not info.key.startswith(LEFT_BEHIND)}
        begun = read_sign(self.target, FROM)
        if (begun is None and present) or (begun is not None and (begun.complete or begun.url != self.source.url)):
            rule = "must be empty, or hold an unfinished migration from this source"
            raise StoreError(Problem("store.migrate.to", rule, self.target.url, "name an empty bucket or prefix"))
        groups: dict[str, list[ObjectInfo]] = {group: [] for group in GROUPS}
        for info in self.source.backend.list(""):
            if not info.key.startswith(LEFT_BEHIND):
                groups[group_of(info.key)].append(info)
        if not any(groups.values()):
            raise StoreError(Problem("store.migrate.from", "holds nothing", self.source.url, "check the address"))
        problems = find_holes(self.source, groups)
        if problems:
            raise StoreError(shortened(problems))
        return Plan(groups, present)

    def copy(self, plan: Plan, advance: Advance = int) -> MigrationReport:
        """Copy what the target lacks and read everything back. Raises PayloadChanged when either side is not what its name says."""
        self.target.check()
        if read_sign(self.target, FROM) is None:
            write_sign(self.target, FROM, MoveSign(url=self.source.url))
        report = MigrationReport()
        for group in GROUPS:
            self._copygroup_of(plan, group, report.counts[group], advance)
        return report

    def switch(self, advance: Advance = int) -> MigrationReport:
        """Close the source, copy what was written to it meanwhile, and declare the target to be the store.

        Raises StoreError, with the source open again, when somebody works on the source.
        """
        self.plan()  # what cannot be moved is refused before anything is closed
        write_sign(self.source, TO, MoveSign(url=self.target.url))
        try:
            owners = watch_leases(self.source)
            if owners:
                fix = "wait for these runs or stop them, then switch again"
                raise StoreError([Problem("store.migrate", "the source is in use", owner, fix) for owner in owners])
            plan = self.plan()
            report = self.copy(plan, advance)
            self._forget_names(plan)
        except BaseException:
            self.source.delete_named(TO)
            raise
        write_sign(self.target, FROM, MoveSign(url=self.source.url, complete=True))
        write_sign(self.source, TO, MoveSign(url=self.target.url, complete=True))
        report.switched = True
        return report

    def cancel(self) -> None:
        """Open the source again. What was written to the target since the switch stays there alone. Raises StoreError without a move."""
        if read_sign(self.source, TO) is None:
            raise StoreError(Problem("store.migrate.from", "was not moved", self.source.url, "there is nothing to take back"))
        if read_sign(self.target, FROM) is not None:
            write_sign(self.target, FROM, MoveSign(url=self.source.url))
        self.source.delete_named(TO)

    def _copygroup_of(self, plan: Plan, group: str, counts: Counts, advance: Advance) -> None:
        with tempfile.TemporaryDirectory(dir=self.scratch, prefix="migrate-") as folder:

            def move(info: ObjectInfo) -> bool:
                copied = False
                if info.key not in self._verified:
                    copied = _Copy(self.source.backend, self.target.backend, info, Path(folder)).run(plan.present.get(info.key))
                if _is_named_by_digest(info.key):
                    self._verified.add(info.key)
                advance(info.size_bytes)
                return copied

            small = [info for info in plan.groups[group] if info.size_bytes <= SMALL_BYTES]
            large = [info for info in plan.groups[group] if info.size_bytes > SMALL_BYTES]
            num_workers = min(self.source.backend.num_workers, self.target.backend.num_workers)
            moved = run_parallel(move, small, num_workers) + run_parallel(move, large, NUM_LARGE_FILES)
        for info, copied in zip(small + large, moved, strict=True):
            if copied:
                counts.num_copied += 1
                counts.copied_bytes += info.size_bytes
            else:
                counts.num_present += 1
                counts.present_bytes += info.size_bytes

    def _forget_names(self, plan: Plan) -> None:
        """Names that an earlier, unfinished pass copied and that the source has given up since, such as old backups."""
        kept = {info.key for info in plan.groups[NAMES]}
        for key in plan.present:
            if key.startswith("named/") and key not in kept:
                self.target.backend.delete(key)


@dataclass(frozen=True)
class _Content:
    """digest: with MD5. data: the bytes of a small object. path: the file that holds a large one."""

    digest: FileDigest
    data: bytes = b""
    path: Path | None = None


@dataclass(frozen=True)
class _Copy:
    """One object on its way. A large one passes through `folder`."""

    source: Backend
    target: Backend
    info: ObjectInfo
    folder: Path

    def run(self, present: ObjectInfo | None) -> bool:
        """False when the target had it. Raises PayloadChanged for bytes that are not what their name or the source says."""
        key, by_digest = self.info.key, _is_named_by_digest(self.info.key)
        if present is not None and present.size_bytes == self.info.size_bytes:
            kept = self._read(self.target)
            if kept is not None and (_fits(key, kept.digest) if by_digest else kept == self._read(self.source)):
                return False
        with self._held(self._read(self.source, keep=True)) as original:
            if original is None:
                raise StoreError(Problem("store.migrate", "an object vanished from the source", key, "stop garbage collection, then go on"))
            if by_digest and not _fits(key, original.digest):
                fix = "delete it there and store it again"
                raise PayloadChanged(Problem("store.migrate", "the source's bytes differ from their digest", key, fix))
            if original.path is None:
                self.target.write(key, original.data)
            else:
                self.target.write_file(key, original.path, original.digest)
            copy = self._read(self.target)
            if copy is None or copy.digest != original.digest:
                raise PayloadChanged(
                    Problem("store.migrate", "the target gives back other bytes", key, "look at the new store, then go on")
                )
        return True

    def _read(self, backend: Backend, *, keep: bool = False) -> _Content | None:
        """The object as it is now. keep: leave a large one's file in `folder`."""
        if self.info.size_bytes <= SMALL_BYTES:
            found = backend.read(self.info.key, SMALL_BYTES)
            return _Content(digest_bytes(found.data, with_md5=True), found.data) if found else None
        path = self.folder / uuid.uuid4().hex
        try:
            if not backend.download(self.info.key, path):
                return None
            return _Content(digest_file(path, with_md5=True), path=path if keep else None)
        finally:
            if not keep:
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _held(self, content: _Content | None) -> Iterator[_Content | None]:
        try:
            yield content
        finally:
            if content is not None and content.path is not None:
                content.path.unlink(missing_ok=True)


def _is_named_by_digest(key: str) -> bool:
    return group_of(key) not in (NAMES, OTHER)


def _fits(key: str, digest: FileDigest) -> bool:
    """Whether bytes are those that a key promises: SHA-256 for files and folders, MD5 in DVC's layout."""
    name = "".join(key.rsplit("/", 2)[1:]).removesuffix(".dir")
    return name == (digest.md5 if key.startswith(f"{DVC_FILES}/") else digest.sha256)
