"""Reads stored payloads back and names everything that is missing or no longer what its digest says."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from imagewright.errors import Problem
from imagewright.storage.digests import digest_bytes, digest_file, parse_digest
from imagewright.storage.errors import StoreError
from imagewright.storage.store import Store
from imagewright.storage.transfer import run_parallel
from imagewright.storage.tree import TreeEntry, blob_key
from imagewright.storage.upload import SMALL_BYTES


def stored_folders(store: Store) -> list[str]:
    """Digests of every folder in the store, sorted."""
    return sorted(info.key.removeprefix("trees/").replace("/", "") for info in store.backend.list("trees/"))


def verify_payloads(store: Store, digests: Iterable[str]) -> list[Problem]:
    """One problem per file that is missing or changed, and per tree that cannot be read; empty when all is well."""
    problems: list[Problem] = []
    for digest in map(parse_digest, digests):
        try:
            entries = (
                store.tree(digest) if store.is_folder(digest) else [TreeEntry(path=".", size_bytes=store.size_bytes(digest), sha256=digest)]
            )
        except StoreError as error:
            problems += error.problems
            continue
        found = run_parallel(partial(_verify_file, store, digest), entries, store.backend.num_workers)
        problems += [problem for problem in found if problem is not None]
    return problems


def _verify_file(store: Store, digest: str, entry: TreeEntry) -> Problem | None:
    key, where = blob_key(entry.sha256, entry.md5), f"{digest}/{entry.path}"
    if entry.size_bytes <= SMALL_BYTES:
        info = store.backend.stat(key)
        data = store.backend.read(key, SMALL_BYTES) if info and info.size_bytes <= SMALL_BYTES else None
        actual = digest_bytes(data.data).sha256 if data else ("" if info else None)
    else:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "payload"
            actual = digest_file(copy).sha256 if store.backend.download(key, copy) else None
    if actual is None:
        return Problem("store.payload", "the store does not hold it", where, "store it again from its source")
    if actual != entry.sha256:
        return Problem(
            "store.payload", "stored bytes differ from their digest", where, "delete it there and store it again from its source"
        )
    return None
