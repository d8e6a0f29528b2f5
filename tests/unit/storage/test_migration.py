"""A store moves whole or not at all: every object is verified, a killed move goes on, and nobody writes to a store that was left."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import uuid
from pathlib import Path

import pytest
from seaweedfs import BUCKET, S3Server, running_seaweedfs

from imagewright.storage import Lease, PayloadChanged, Store, StoreError, open_store
from imagewright.storage.backups import save_backup
from imagewright.storage.errors import StoreMoved
from imagewright.storage.holes import DVC_LAYOUT, FILES, FOLDERS, GROUPS, NAMES, OTHER
from imagewright.storage.leases import LEASE_PREFIX
from imagewright.storage.migration import Migration
from imagewright.storage.moved import FROM, TO
from imagewright.storage.tree import blob_key
from imagewright.storage.upload import SMALL_BYTES


@pytest.fixture(params=["local to s3", "s3 to local", "s3 to s3"])
def pair(request: pytest.FixtureRequest, tmp_path: Path, s3_server: S3Server) -> tuple[Store, Store]:
    """A source and an empty target."""

    def make(kind: str, name: str) -> Store:
        if kind == "local":
            return open_store(f"file://{tmp_path}/store-{name}")
        return open_store(f"s3://{BUCKET}/{uuid.uuid4().hex}", s3_server.environment)

    source, _, target = request.param.partition(" to ")
    return make(source, "source"), make(target, "target")


@pytest.fixture
def places(tmp_path: Path) -> tuple[Store, Store]:
    """A source and an empty target in folders."""
    return open_store(f"file://{tmp_path}/store-source"), open_store(f"file://{tmp_path}/store-target")


def fill(store: Store, folder: Path) -> dict[str, str]:
    """One of everything a store holds; returns the digests of the payloads."""
    large = folder.parent / "large"
    large.write_bytes(b"large" * (SMALL_BYTES // 5 + 1))
    digests = {
        "folder": store.put_folder(folder),
        "dvc": store.put_folder(folder, dvc_layout=True),
        "large": store.put_file(large),
        "small": store.put_bytes(b"small"),
    }
    store.put_named("promotions/turbo/1.json", b'{"number": 1}')
    store.put_named("runs/run-1/ingest.json", digests["folder"].encode())
    save_backup(store, "mlflow", folder / "a.txt", keep=3)
    store.backend.write("mlflow/1/abc/artifacts/report.html", b"<html>")
    store.put_named(LEASE_PREFIX + "dead", b'{"owner": "gone", "token": "t", "beat": 1, "ttl_seconds": 0.2}')
    return digests


def content(store: Store) -> dict[str, tuple[int, str]]:
    """Size and digest by key, leases and signs left out."""
    found = {}
    for info in store.backend.list(""):
        if not info.key.startswith((f"named/{LEASE_PREFIX}", "named/migrations/")):
            data = store.backend.read(info.key, 64 << 20)
            assert data is not None
            found[info.key] = (info.size_bytes, hashlib.sha256(data.data).hexdigest())
    return found


def test_everything_arrives_and_is_what_it_was(pair: tuple[Store, Store], folder: Path, tmp_path: Path) -> None:
    source, target = pair
    digests = fill(source, folder)
    migration = Migration(source, target)
    advanced: list[int] = []
    report = migration.copy(migration.plan(), advanced.append)
    assert content(target) == content(source)
    assert {group: report.counts[group].num_copied for group in GROUPS} == {FILES: 5, DVC_LAYOUT: 4, OTHER: 1, FOLDERS: 2, NAMES: 3}
    assert sum(advanced) == sum(size for size, _ in content(source).values())
    for name, digest in digests.items():
        target.get(digest, tmp_path / "back" / name)
    assert (tmp_path / "back" / "dvc" / "a.txt").read_bytes() == b"alpha"
    assert target.list_named(LEASE_PREFIX) == []


@pytest.mark.parametrize("pair", ["s3 to s3"], indirect=True)
def test_a_switch_closes_the_source_and_brings_what_was_written_meanwhile(pair: tuple[Store, Store], folder: Path) -> None:
    source, target = pair
    fill(source, folder)
    migration = Migration(source, target)
    migration.copy(migration.plan())
    late = source.put_bytes(b"late")
    source.put_named("runs/run-1/ingest.json", late.encode())
    source.delete_named("promotions/turbo/1.json")
    report = migration.switch()
    assert report.switched and target.read_bytes(late, 100) == b"late"
    assert content(target) == content(source)
    with pytest.raises(StoreMoved, match="was moved to"), Lease(source, "work", "me", 30):
        pass
    with pytest.raises(StoreMoved):
        save_backup(source, "mlflow", folder / "a.txt", keep=3)
    with Lease(target, "work", "me", 30):
        pass
    assert source.read_bytes(late, 100) == b"late", "readers go on"


@pytest.mark.e2e
def test_two_s3_services_with_different_credentials(s3_server: S3Server, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with running_seaweedfs(tmp_path / "second") as second:
        source = open_store(f"s3://{BUCKET}/{uuid.uuid4().hex}", s3_server.environment)
        target = open_store(f"s3://{BUCKET}/moved", second.environment)
        fill(source, folder)
        assert Migration(source, target).switch().switched and content(target) == content(source)


def killed_copy(source: str, target: str, environment: dict[str, str], after: int) -> None:
    os.environ.update(environment)
    migration = Migration(open_store(source), open_store(target))
    left = iter(range(after))

    def advance(_: int) -> None:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    migration.copy(migration.plan(), advance)


def test_a_killed_migration_is_continued_without_copying_again(s3_server: S3Server, tmp_path: Path, folder: Path) -> None:
    for index in range(30):
        (folder / f"file-{index}").write_text(str(index))
    urls = f"file://{tmp_path}/store", f"s3://{BUCKET}/{uuid.uuid4().hex}"
    source, target = (open_store(url, s3_server.environment) for url in urls)
    fill(source, folder)
    for after in (0, 12, 40):
        process = multiprocessing.get_context("spawn").Process(target=killed_copy, args=(*urls, s3_server.environment, after))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert all(target.exists(info.key.removeprefix("trees/").replace("/", "")) for info in target.backend.list("trees/"))
    migration = Migration(source, target)
    report = migration.copy(migration.plan())
    assert report.counts[FILES].num_present >= 30 and content(target) == content(source)


def test_a_second_copy_finds_everything_there(places: tuple[Store, Store], folder: Path) -> None:
    source, target = places
    fill(source, folder)
    Migration(source, target).copy(Migration(source, target).plan())
    again = Migration(source, target)
    plan = again.plan()
    assert all(plan.missing(group) == [] for group in GROUPS)
    report = again.copy(plan)
    assert [counts.num_copied for counts in report.counts.values()] == [0, 0, 0, 0, 0]


def test_a_damaged_copy_of_the_right_size_is_copied_again(places: tuple[Store, Store], folder: Path) -> None:
    source, target = places
    digests = fill(source, folder)
    Migration(source, target).copy(Migration(source, target).plan())
    target.backend.write(blob_key(digests["small"]), b"SMALL")
    target.backend.write("mlflow/1/abc/artifacts/report.html", b"<HTML>")
    report = Migration(source, target).copy(Migration(source, target).plan())
    assert report.counts[FILES].num_copied == 1 and report.counts[OTHER].num_copied == 1 and content(target) == content(source)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda store, folder: store.backend.delete(blob_key(hashlib.sha256(b"alpha").hexdigest())), "misses a file of a folder.*a.txt"),
        (lambda store, folder: store.backend.write(blob_key(hashlib.sha256(b"alpha").hexdigest()), b"alph"), "misses a file of a folder"),
        (lambda store, folder: store.backend.write(next(store.backend.list("trees/")).key, b"[]"), "stored bytes differ from their digest"),
        (lambda store, folder: store.put_named("promotions/turbo/3.json", b"{}"), "promotion log.*turbo 2"),
        (lambda store, folder: store.put_named("backups/mlflow/20260101", b"0" * 64), "misses a backup"),
    ],
    ids=["missing file", "short file", "damaged folder", "promotion gap", "lost backup"],
)
def test_a_source_with_holes_is_refused_before_anything_is_written(
    places: tuple[Store, Store], folder: Path, damage: object, message: str
) -> None:
    source, target = places
    fill(source, folder)
    damage(source, folder)  # type: ignore[operator]
    with pytest.raises(StoreError, match=message):
        Migration(source, target).plan()
    assert list(target.backend.list("")) == []


def test_bytes_that_changed_in_the_source_are_not_copied(places: tuple[Store, Store], folder: Path) -> None:
    source, target = places
    digests = fill(source, folder)
    source.backend.write(blob_key(digests["small"]), b"SMALL")
    with pytest.raises(PayloadChanged, match="the source's bytes differ from their digest"):
        Migration(source, target).copy(Migration(source, target).plan())
    assert not target.exists(digests["small"]) and list(target.backend.list("named/promotions/")) == []


def test_a_target_that_is_in_use_is_refused(places: tuple[Store, Store], folder: Path) -> None:
    source, target = places
    fill(source, folder)
    target.put_bytes(b"somebody else's")
    with pytest.raises(StoreError, match="must be empty, or hold an unfinished migration"):
        Migration(source, target).plan()


def test_the_same_store_and_an_empty_one_are_refused(places: tuple[Store, Store]) -> None:
    source, target = places
    with pytest.raises(StoreError, match="must be another store"):
        Migration(source, source).plan()
    with pytest.raises(StoreError, match="holds nothing"):
        Migration(source, target).plan()


def test_a_source_in_use_is_not_closed(places: tuple[Store, Store], folder: Path) -> None:
    source, target = places
    fill(source, folder)
    with Lease(source, "work", "trainer-7", 1), pytest.raises(StoreError, match=r"is in use.*trainer-7"):
        Migration(source, target).switch()
    assert source.get_named(TO) is None
    assert Migration(source, target).switch().switched


def test_a_move_that_is_done_is_neither_repeated_nor_undone_by_accident(places: tuple[Store, Store], folder: Path) -> None:
    source, target = places
    fill(source, folder)
    Migration(source, target).switch()
    target.put_named("runs/run-1/ingest.json", b"newer")
    with pytest.raises(StoreError, match="was moved to"):
        Migration(source, target).plan()
    with pytest.raises(StoreError, match="was moved to"):
        Migration(source, target).switch()
    assert source.get_named(TO) is not None, "a refused switch leaves the source closed"


def test_a_cancelled_move_opens_the_source_again(places: tuple[Store, Store], folder: Path) -> None:
    source, target = places
    fill(source, folder)
    with pytest.raises(StoreError, match="there is nothing to take back"):
        Migration(source, target).cancel()
    Migration(source, target).switch()
    Migration(source, target).cancel()
    with Lease(source, "work", "me", 30):
        pass
    assert Migration(source, target).switch().switched


def test_a_damaged_sign_is_named(places: tuple[Store, Store], folder: Path) -> None:
    source, target = places
    fill(source, folder)
    target.put_named(FROM, b"{}")
    with pytest.raises(StoreError, match="is not the sign of a move"):
        Migration(source, target).plan()
