"""Nothing that a root, a lease, a young folder or a writer needs is ever collected; the rest is, when told to."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from imagewright.storage import Lease, Store, StoreError
from imagewright.storage.garbage import MIN_GRACE, collect_garbage, named_roots
from imagewright.storage.local_backend import TEMPORARY_FOLDER, LocalBackend
from imagewright.storage.upload import TOUCH_AFTER, keep_young

GRACE = timedelta(hours=3)
LATER = timedelta(hours=5)


def later() -> datetime:
    return datetime.now(UTC) + LATER


def make_folder(path: Path, **files: str) -> Path:
    path.mkdir()
    for name, text in files.items():
        (path / name).write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("dvc_layout", [False, True])
def test_only_what_no_root_reaches_is_deleted(store: Store, tmp_path: Path, dvc_layout: bool) -> None:
    kept = store.put_folder(make_folder(tmp_path / "kept", a="shared", b="kept"), dvc_layout=dvc_layout)
    lost = store.put_folder(make_folder(tmp_path / "lost", a="shared", c="lost"), dvc_layout=dvc_layout)
    single = store.put_bytes(b"single")
    dry = collect_garbage(store, [kept, single], grace=GRACE, now=later())
    assert dry.num_garbage == (3 if dvc_layout else 2) and dry.num_deleted == 0 and store.exists(lost)
    report = collect_garbage(store, [kept, single], grace=GRACE, now=later(), delete=True)
    assert report.num_deleted == dry.num_garbage and report.deleted_bytes == dry.garbage_bytes > 0
    assert store.exists(kept) and store.exists(single)
    store._trees.clear()
    assert not store.exists(lost)
    store.get(kept, tmp_path / "out")


def test_young_folders_and_blobs_are_spared(store: Store, tmp_path: Path) -> None:
    root = store.put_bytes(b"root")
    young = store.put_folder(make_folder(tmp_path / "young", a="young"))
    blob = store.put_bytes(b"not in a folder yet")
    report = collect_garbage(store, [root], grace=GRACE, delete=True)
    assert report.num_garbage == report.num_deleted == 0 and report.num_young == 1
    assert store.exists(young) and store.exists(blob)


def test_an_object_refreshed_by_a_writer_after_the_mark_is_spared(local_store: Store) -> None:
    root, blob = local_store.put_bytes(b"root"), local_store.put_bytes(b"reused")
    backend = local_store.backend
    assert isinstance(backend, LocalBackend)
    old = time.time() - 4 * 3600
    for info in list(backend.list("blobs/")):
        os.utime(backend.root / info.key, (old, old))
    source = backend.root.parent / "again"
    source.write_bytes(b"reused")
    assert collect_garbage(local_store, [root], grace=GRACE).num_garbage == 1
    assert local_store.put_file(source) == blob  # skipped, because the store has it, and made young
    report = collect_garbage(local_store, [root], grace=GRACE, delete=True)
    assert report.num_garbage == 0 and local_store.exists(blob)


def test_refreshing_works_on_every_backend(store: Store) -> None:
    digest = store.put_bytes(b"x")
    [before] = store.backend.list("blobs/")
    time.sleep(1.1)
    assert store.backend.touch(before.key)
    [after] = store.backend.list("blobs/")
    assert after.modified > before.modified and store.read_bytes(digest, 1) == b"x"
    assert not store.backend.touch("blobs/00/absent")


def test_pins_of_a_held_lease_are_roots(local_store: Store) -> None:
    root, pinned = local_store.put_bytes(b"root"), local_store.put_bytes(b"pinned")
    with Lease(local_store, "work", "me", 30, pins=(pinned,)):
        collect_garbage(local_store, [root], grace=GRACE, now=later(), delete=True)
        assert local_store.exists(pinned)
    collect_garbage(local_store, [root], grace=GRACE, now=later(), delete=True)
    assert not local_store.exists(pinned)


def test_deleting_without_roots_is_refused_and_looking_is_not(local_store: Store) -> None:
    digest = local_store.put_bytes(b"x")
    with pytest.raises(StoreError, match=r"store\.gc\.roots"):
        collect_garbage(local_store, [], grace=GRACE, now=later(), delete=True)
    assert collect_garbage(local_store, [], grace=GRACE, now=later()).num_garbage == 1 and local_store.exists(digest)


def test_a_grace_period_below_the_shortest_is_refused(local_store: Store) -> None:
    collect_garbage(local_store, [], grace=MIN_GRACE)
    with pytest.raises(StoreError, match=r"store\.gc\.grace"):
        collect_garbage(local_store, [], grace=MIN_GRACE - timedelta(seconds=1))


def test_missing_roots_are_counted(local_store: Store) -> None:
    report = collect_garbage(local_store, [local_store.put_bytes(b"x"), "f" * 64], grace=GRACE)
    assert (report.num_roots, report.num_missing_roots) == (2, 1)


def test_names_are_roots_but_old_actions_and_runs_are_not(local_store: Store) -> None:
    digests = {name: f"{index:064x}" for index, name in enumerate(["promotions/1", "actions/key.json", "runs/r/job.json"], start=1)}
    for name, digest in digests.items():
        local_store.put_named(name, f'{{"digest": "{digest}"}}'.encode())
    keep = timedelta(days=30)
    assert named_roots(local_store, keep) == set(digests.values())
    assert named_roots(local_store, keep, now=datetime.now(UTC) + timedelta(days=31)) == {digests["promotions/1"]}


def test_what_killed_writers_left_is_removed(local_store: Store) -> None:
    root = local_store.put_bytes(b"root")
    backend = local_store.backend
    assert isinstance(backend, LocalBackend)
    (backend.root / TEMPORARY_FOLDER / "half").write_bytes(b"ha")
    assert collect_garbage(local_store, [root], grace=GRACE, delete=True).num_partial == 0
    assert collect_garbage(local_store, [root], grace=GRACE, now=later(), delete=True).num_partial == 1


def test_a_damaged_live_folder_stops_the_collection(local_store: Store, tmp_path: Path) -> None:
    digest = local_store.put_folder(make_folder(tmp_path / "kept", a="x"))
    [tree] = local_store.backend.list("trees/")
    local_store.backend.write(tree.key, b"[]")
    with pytest.raises(StoreError, match="differ from their digest"):
        collect_garbage(local_store, [digest], grace=GRACE, now=later(), delete=True)
    assert len(list(local_store.backend.list("blobs/"))) == 1


def test_a_folder_that_took_long_to_store_is_refreshed_or_refused(local_store: Store, tmp_path: Path) -> None:
    entries = local_store.tree(local_store.put_folder(make_folder(tmp_path / "slow", a="x")))
    [blob] = local_store.backend.list("blobs/")
    keep_young(local_store.backend, entries, datetime.now(UTC) - TOUCH_AFTER)
    [refreshed] = local_store.backend.list("blobs/")
    assert refreshed.modified > blob.modified
    local_store.backend.delete(blob.key)
    keep_young(local_store.backend, entries, datetime.now(UTC))
    with pytest.raises(StoreError, match="collected as garbage meanwhile"):
        keep_young(local_store.backend, entries, datetime.now(UTC) - TOUCH_AFTER)
