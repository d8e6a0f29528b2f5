"""Folders as trees: what cannot be stored is named, what would leave the folder is refused, and DVC reads the same `.dir`."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from imagewright.storage import Store, StoreError, TreeEntry
from imagewright.storage.tree import dvc_folder, parse_tree, scan_folder, tree_bytes, tree_key

SHA256 = hashlib.sha256(b"x").hexdigest()


def rows(*paths: str) -> tuple[bytes, str]:
    data = json.dumps([{"path": path, "size_bytes": 1, "sha256": SHA256} for path in paths]).encode()
    return data, hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "", ".", "a//b", "./a", "a/", "a\0b"])
def test_paths_that_leave_the_folder_are_refused(local_store: Store, tmp_path: Path, path: str) -> None:
    data, digest = rows(path)
    local_store.put_bytes(b"x")
    local_store.backend.write(tree_key(digest), data)
    with pytest.raises(StoreError, match="must stay inside the folder"):
        local_store.get(digest, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "x").exists()


def test_a_file_twice_or_a_path_through_a_file_is_refused() -> None:
    with pytest.raises(StoreError, match="name a file twice"):
        parse_tree(*rows("a", "a"))
    with pytest.raises(StoreError, match="lead through a file"):
        parse_tree(*rows("a", "a/b"))
    assert len(parse_tree(*rows("a", "b/a", "..a", "b/c..d"))) == 4


@pytest.mark.parametrize("data", [b"{}", b"[1]", b"\xff", b'[{"path": "a"}]', b"[" * 100_000])
def test_what_is_no_tree_is_refused(data: bytes) -> None:
    with pytest.raises(StoreError, match="is not a list of files"):
        parse_tree(data, hashlib.sha256(data).hexdigest())


def test_links_and_special_files_are_all_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError) as caught:
        scan_folder(tmp_path)
    assert sorted(problem.received for problem in caught.value.problems) == ["link", "loop", "pipe"]


def test_the_same_files_give_the_same_bytes_in_any_order() -> None:
    entries = [TreeEntry(path=path, size_bytes=1, sha256=SHA256) for path in ("b", "a/c", "a")]
    assert tree_bytes(entries) == tree_bytes(reversed(entries))


def test_dvc_writes_the_same_directory_object() -> None:
    from dvc_data.hashfile.tree import Tree

    entries = [
        TreeEntry(path=path, size_bytes=3, sha256=SHA256, md5=hashlib.md5(path.encode()).hexdigest())  # noqa: S324 - DVC's own hash
        for path in ("b/x", "b.txt", "a/y", "bild-\u56fe.bin")
    ]
    tree = Tree.from_list([{"md5": entry.md5, "relpath": entry.path} for entry in entries], hash_name="md5")
    tree.digest()
    folder = dvc_folder(entries)
    assert folder.data == tree.as_bytes() and folder.md5 == tree.hash_info.value
    assert (folder.size_bytes, folder.num_files) == (12, 4)
