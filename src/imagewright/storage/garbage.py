"""Garbage collection: the only code that deletes payloads. It marks from declared roots and sweeps what is old and unreachable."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter

from imagewright.errors import Problem
from imagewright.storage.backend import ObjectInfo
from imagewright.storage.digests import parse_digest
from imagewright.storage.errors import StoreError
from imagewright.storage.leases import LEASE_PREFIX, live_pins
from imagewright.storage.store import Store
from imagewright.storage.transfer import run_parallel
from imagewright.storage.tree import DVC_FILES, MAX_TREE_BYTES, TreeEntry, blob_key, dvc_folder, parse_tree, tree_key
from imagewright.storage.upload import TOUCH_AFTER

AGEING_PREFIXES = ("actions/", "checkpoints/", "runs/")
MIN_GRACE = 2 * TOUCH_AFTER
_DIGEST_IN_TEXT = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


@dataclass(frozen=True)
class GarbageReport:
    """Counts and bytes of objects. live: reachable. young: unreachable, inside the grace period. garbage: neither."""

    num_roots: int
    num_missing_roots: int
    num_live: int
    live_bytes: int
    num_young: int
    young_bytes: int
    num_garbage: int
    garbage_bytes: int
    num_deleted: int
    deleted_bytes: int
    num_partial: int


def collect_garbage(
    store: Store, roots: Iterable[str], *, grace: timedelta, delete: bool = False, now: datetime | None = None
) -> GarbageReport:
    """Finds, and with `delete` removes, what no root, no held lease and no folder younger than the grace period reaches.

    grace must be longer than the longest upload, and at least MIN_GRACE: a writer that skips a blob the store has refreshes it when it is
    older than TOUCH_AFTER, and the age is looked at again right before each deletion, so a blob in use by a writer is never removed.
    Raises StoreError for a grace period that is too short, and for a deletion without any root.
    """
    digests = {parse_digest(root) for root in roots}
    problems = []
    if grace < MIN_GRACE:
        problems.append(Problem("store.gc.grace", f"must be at least {MIN_GRACE}", str(grace), "give the longest upload more time"))
    if delete and not digests:
        problems.append(
            Problem("store.gc.roots", "must name at least one payload to keep", None, "give --roots FILE, or run without --delete")
        )
    if problems:
        raise StoreError(problems)
    started = now or datetime.now(UTC)
    cutoff = started - grace
    digests |= live_pins(store)
    objects = [info for prefix in ("trees/", "blobs/", f"{DVC_FILES}/") for info in store.backend.list(prefix)]
    live_keys = _reachable(store, digests, [info for info in objects if info.key.startswith("trees/")], cutoff)
    live = [info for info in objects if info.key in live_keys]
    rest = [info for info in objects if info.key not in live_keys]
    garbage = [info for info in rest if info.modified <= cutoff]
    young = [info for info in rest if info.modified > cutoff]
    deleted = _sweep(store, garbage, cutoff) if delete else []
    keys = {info.key for info in objects}
    return GarbageReport(
        num_roots=len(digests),
        num_missing_roots=sum(tree_key(digest) not in keys and blob_key(digest) not in keys for digest in digests),
        num_live=len(live),
        live_bytes=_total(live),
        num_young=len(young),
        young_bytes=_total(young),
        num_garbage=len(garbage),
        garbage_bytes=_total(garbage),
        num_deleted=len(deleted),
        deleted_bytes=_total(deleted),
        num_partial=store.backend.remove_partial(cutoff) if delete else 0,
    )


def named_roots(store: Store, keep: timedelta, now: datetime | None = None) -> set[str]:
    """Every digest that a named object mentions (promotions, records), except actions, checkpoint copies and runs older than `keep`.

    Reading names as plain text keeps more than it must rather than less: a collector must not depend on knowing every format.
    """
    oldest = (now or datetime.now(UTC)) - keep
    names = []
    for info in store.backend.list("named/"):
        name = info.key.removeprefix("named/")
        if not name.startswith(LEASE_PREFIX) and (not name.startswith(AGEING_PREFIXES) or info.modified >= oldest):
            names.append(name)

    def digests(name: str) -> set[str]:
        found = store.get_named(name)
        return {match.decode() for match in _DIGEST_IN_TEXT.findall(found.data)} if found else set()

    return set().union(*run_parallel(digests, names, store.backend.num_workers))


def _reachable(store: Store, roots: set[str], trees: list[ObjectInfo], cutoff: datetime) -> set[str]:
    """Keys of the roots and of everything in live folders. A damaged live tree stops the collection: what it names is unknown."""
    keys = {blob_key(root) for root in roots}
    live_trees = [info for info in trees if info.modified > cutoff or _digest_of(info) in roots]

    def entries(info: ObjectInfo) -> list[TreeEntry]:
        found = store.backend.read(info.key, MAX_TREE_BYTES)
        return parse_tree(found.data, _digest_of(info)) if found else []

    for info, files in zip(live_trees, run_parallel(entries, live_trees, store.backend.num_workers), strict=True):
        keys.add(info.key)
        keys.update(blob_key(entry.sha256, entry.md5) for entry in files)
        if files and all(entry.md5 for entry in files):
            keys.add(blob_key("", dvc_folder(files).md5))
    return keys


def _sweep(store: Store, garbage: list[ObjectInfo], cutoff: datetime) -> list[ObjectInfo]:
    """Trees go before blobs, so that no folder is ever visible without its files."""

    def remove(info: ObjectInfo) -> bool:
        current = store.backend.stat(info.key)
        if current is None or current.modified > cutoff:
            return False
        store.backend.delete(info.key)
        return True

    ordered = sorted(garbage, key=attrgetter("key"))
    trees = [info for info in ordered if info.key.startswith("trees/")]
    blobs = [info for info in ordered if not info.key.startswith("trees/")]
    removed = []
    for group in (trees, blobs):
        gone = run_parallel(remove, group, store.backend.num_workers)
        removed += [info for info, was_removed in zip(group, gone, strict=True) if was_removed]
    return removed


def _digest_of(tree: ObjectInfo) -> str:
    return tree.key.removeprefix("trees/").replace("/", "")


def _total(objects: Iterable[ObjectInfo]) -> int:
    return sum(info.size_bytes for info in objects)
