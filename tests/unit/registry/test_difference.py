"""What a person is told about two revisions: files always, rows and distributions where there is a manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from imagewright.errors import InputError
from imagewright.registry import DataRegistry
from imagewright.storage import Store, StoreError

MakeFolder = Callable[..., Path]


def test_files_are_told_when_there_is_no_manifest(registry: DataRegistry, make_folder: MakeFolder) -> None:
    folder = make_folder({"same": "1", "changed": "1", "removed": "1"})
    registry.commit("raw", folder, "First")
    (folder / "removed").unlink()
    (folder / "changed").write_text("2")
    (folder / "added").write_text("3")
    registry.commit("raw", folder, "Second")
    difference = registry.diff("raw@v1", "raw")
    assert (difference.files.added, difference.files.removed, difference.files.changed) == (("added",), ("removed",), ("changed",))
    assert difference.files.num_same == 1
    assert difference.rows is None


def test_a_revision_does_not_differ_from_itself(registry: DataRegistry, make_folder: MakeFolder) -> None:
    registry.commit("raw", make_folder({"a": "1"}), "First")
    difference = registry.diff("raw", "raw@v1")
    assert difference.is_empty
    assert difference.files.num_same == 1


def test_different_datasets_can_be_compared(registry: DataRegistry, make_folder: MakeFolder) -> None:
    registry.commit("raw", make_folder({"a": "1"}), "First")
    registry.commit("curated", make_folder({"a": "1", "b": "2"}), "First")
    assert registry.diff("raw", "curated").files.added == ("b",)


def test_a_parquet_file_that_is_none_is_refused(registry: DataRegistry, make_folder: MakeFolder) -> None:
    for number in (1, 2):
        registry.commit("raw", make_folder({"manifest.parquet": f"not parquet {number}"}), "Broken")
    with pytest.raises(InputError, match=r"diff\.manifest: must be a Parquet file.*raw@v1/manifest\.parquet"):
        registry.diff("raw@v1", "raw@v2")


def test_changed_bytes_in_the_store_are_noticed(registry: DataRegistry, store: Store, make_folder: MakeFolder) -> None:
    for number in (1, 2):
        registry.commit("raw", make_folder({"manifest.parquet": f"not parquet {number}"}), "Broken")
    for info in list(store.backend.list("dvc/files/md5")):
        store.backend.write(info.key, b"x" * info.size_bytes)
    with pytest.raises((InputError, StoreError), match="stored bytes differ from their digest"):
        registry.diff("raw@v1", "raw@v2")
