"""Backups: what is saved comes back byte for byte, old ones are forgotten, garbage collection keeps the rest."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from imagewright.storage import Store, StoreError, open_store
from imagewright.storage.backups import list_backups, restore_backup, save_backup
from imagewright.storage.garbage import collect_garbage, named_roots

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def folder_store(tmp_path: Path) -> Store:
    return open_store((tmp_path / "store").as_uri())


def dump(folder: Path, text: str) -> Path:
    path = folder / "mlflow.dump"
    path.write_text(text)
    return path


def test_a_database_is_restored_with_every_row(folder_store: Store, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "live.db") as live:
        live.execute("create table metrics (key text, value real, step integer)")
        live.executemany("insert into metrics values ('train/loss', ?, ?)", [(1 / (step + 1), step) for step in range(500)])
    save_backup(folder_store, "mlflow", tmp_path / "live.db", keep=3)
    restore_backup(folder_store, "mlflow", tmp_path / "restored.db")
    query = "select * from metrics order by step"
    with sqlite3.connect(tmp_path / "restored.db") as restored:
        assert restored.execute(query).fetchall() == live.execute(query).fetchall()


def test_a_database_in_use_is_saved_with_what_only_its_log_holds(folder_store: Store, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "live.db", isolation_level=None)) as live:
        live.execute("pragma journal_mode=wal")
        live.execute("create table metrics (value real)")
        live.execute("insert into metrics values (1)")
        live.execute("begin")
        live.execute("insert into metrics values (2)")  # not committed: must not be in the backup
        save_backup(folder_store, "mlflow", tmp_path / "live.db", keep=3)
    restore_backup(folder_store, "mlflow", tmp_path / "restored.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "restored.db")) as restored:
        assert restored.execute("select value from metrics").fetchall() == [(1,)]


def test_a_damaged_database_is_refused(folder_store: Store, tmp_path: Path) -> None:
    (tmp_path / "broken.db").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    with pytest.raises(StoreError, match="cannot be read"):
        save_backup(folder_store, "mlflow", tmp_path / "broken.db", keep=3)


def test_only_the_newest_are_kept_and_each_can_be_restored(folder_store: Store, tmp_path: Path) -> None:
    for day in range(5):
        save_backup(folder_store, "mlflow", dump(tmp_path, f"day {day}"), keep=3, now=NOON + timedelta(days=day))
    kept = list_backups(folder_store, "mlflow")
    assert [backup.saved[:8] for backup in kept] == ["20260204", "20260203", "20260202"]
    restore_backup(folder_store, "mlflow", tmp_path / "oldest", kept[-1].saved)
    assert (tmp_path / "oldest").read_text() == "day 2"
    restore_backup(folder_store, "mlflow", tmp_path / "newest")
    assert (tmp_path / "newest").read_text() == "day 4"


def test_garbage_collection_keeps_saved_backups_and_takes_forgotten_ones(folder_store: Store, tmp_path: Path) -> None:
    first = save_backup(folder_store, "mlflow", dump(tmp_path, "first"), keep=1, now=NOON)
    second = save_backup(folder_store, "mlflow", dump(tmp_path, "second"), keep=1, now=NOON + timedelta(days=1))
    roots = named_roots(folder_store, timedelta(days=30))
    collect_garbage(folder_store, roots, grace=timedelta(hours=3), delete=True, now=datetime.now(UTC) + timedelta(hours=5))
    assert folder_store.exists(second.digest)
    assert not folder_store.exists(first.digest)


def test_an_empty_or_missing_dump_never_pushes_out_a_whole_one(folder_store: Store, tmp_path: Path) -> None:
    save_backup(folder_store, "mlflow", dump(tmp_path, "whole"), keep=1, now=NOON)
    for path in (dump(tmp_path, ""), tmp_path / "missing"):
        with pytest.raises(StoreError, match="not empty"):
            save_backup(folder_store, "mlflow", path, keep=1)
    assert len(list_backups(folder_store, "mlflow")) == 1


def test_mistakes_are_named_with_a_fix(folder_store: Store, tmp_path: Path) -> None:
    whole = dump(tmp_path, "whole")
    with pytest.raises(StoreError, match=r"backup\.name"):
        save_backup(folder_store, "../x", whole, keep=1)
    with pytest.raises(StoreError, match=r"backup\.keep"):
        save_backup(folder_store, "mlflow", whole, keep=0)
    with pytest.raises(StoreError, match=r"does not exist.*saved: none"):
        restore_backup(folder_store, "mlflow", tmp_path / "x")
    save_backup(folder_store, "mlflow", whole, keep=1, now=NOON)
    with pytest.raises(StoreError, match="saved: 20260131T120000"):
        restore_backup(folder_store, "mlflow", tmp_path / "x", "20250101T000000.000000Z")
    with pytest.raises(StoreError, match="exists already"):
        restore_backup(folder_store, "mlflow", whole)
    folder_store.put_named("backups/mlflow/20270101T000000.000000Z", b"not json")
    with pytest.raises(StoreError, match="is not a backup entry"):
        list_backups(folder_store, "mlflow")
