"""What a job sees of the store, on a local folder and on a real S3 server."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from imagewright.storage import NameTaken, PayloadChanged, PayloadMissing, Store, StoreError
from imagewright.storage.store import MAX_NAME_CHARS
from imagewright.storage.tree import blob_key, tree_key
from imagewright.storage.upload import LIST_FROM_FILES, SMALL_BYTES


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_bytes_come_back_under_their_sha256(store: Store) -> None:
    digest = store.put_bytes(b"hello")
    assert digest == hashlib.sha256(b"hello").hexdigest()
    assert store.exists(digest) and store.size_bytes(digest) == 5 and not store.is_folder(digest)
    assert store.read_bytes(digest, 5) == b"hello"
    assert store.read_bytes(f"imagewright://sha256/{digest}", 100) == b"hello"


def test_a_read_larger_than_its_limit_is_refused(store: Store) -> None:
    digest = store.put_bytes(b"hello")
    with pytest.raises(StoreError, match="must not be larger than 4 bytes"):
        store.read_bytes(digest, 4)


def test_empty_payload_comes_back(store: Store, tmp_path: Path) -> None:
    digest = store.put_bytes(b"")
    store.get(digest, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"" and store.read_bytes(digest, 0) == b""


@pytest.mark.parametrize("dvc_layout", [False, True])
def test_folder_comes_back_as_it_was(store: Store, folder: Path, tmp_path: Path, dvc_layout: bool) -> None:
    digest = store.put_folder(folder, dvc_layout=dvc_layout)
    store.get(digest, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(folder)
    assert store.exists(digest) and store.size_bytes(digest) == sum(map(len, contents(folder).values()))
    assert [entry.path for entry in store.tree(digest)] == sorted(contents(folder))
    assert not list(tmp_path.glob(".*partial"))


def test_some_files_of_a_folder_come_back_alone_and_once(store: Store, folder: Path, tmp_path: Path) -> None:
    digest = store.put_folder(folder)
    wanted = ["a.txt", "nested/deeper/again.txt"]
    store.get_files(digest, wanted, tmp_path / "out")
    assert sorted(contents(tmp_path / "out")) == wanted
    (tmp_path / "out" / "a.txt").write_bytes(b"mine")
    store.get_files(digest, ["a.txt", "empty"], tmp_path / "out")
    assert contents(tmp_path / "out") == {"a.txt": b"mine", "empty": b"", "nested/deeper/again.txt": b"alpha"}
    with pytest.raises(PayloadMissing, match="no such file") as caught:
        store.get_files(digest, ["a.txt", "b", "c"], tmp_path / "out")
    assert len(caught.value.problems) == 2


def test_folder_digest_is_the_sha256_of_its_canonical_tree(store: Store, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "x").write_bytes(b"1")
    sha256 = hashlib.sha256(b"1").hexdigest()
    text = json.dumps([{"path": "x", "sha256": sha256, "size_bytes": 1}], separators=(",", ":"))
    assert store.put_folder(tmp_path / "one") == hashlib.sha256(text.encode()).hexdigest()


def test_empty_folder_is_a_payload(store: Store, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    digest = store.put_folder(tmp_path / "nothing")
    store.get(digest, tmp_path / "out")
    assert (tmp_path / "out").is_dir() and store.exists(digest) and store.size_bytes(digest) == 0


@pytest.mark.parametrize("size", [SMALL_BYTES, SMALL_BYTES + 1, (16 << 20) + 5])
def test_large_files_come_back_whole(store: Store, tmp_path: Path, size: int) -> None:
    source = tmp_path / "large"
    source.write_bytes(os.urandom(1024) * (size // 1024) + b"x" * (size % 1024))
    digest = store.put_file(source)
    store.get(digest, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
    assert store.read_range(digest, None, size - 3, 3) == source.read_bytes()[-3:]


def test_ranges_of_a_file_in_a_folder(store: Store, folder: Path) -> None:
    digest = store.put_folder(folder)
    assert store.read_range(digest, "nested/bild-\u56fe.bin", 254, 4) == bytes([254, 255, 0, 1])
    assert store.read_range(digest, "a.txt", 2, 3) == b"pha"
    with pytest.raises(StoreError, match="the file ends before byte 6"):
        store.read_range(digest, "a.txt", 2, 4)
    with pytest.raises(PayloadMissing, match="no such file"):
        store.read_range(digest, "b.txt", 0, 1)
    assert store.read_bytes(digest, 10, "a.txt") == b"alpha"


def test_missing_payloads_are_named(store: Store, tmp_path: Path) -> None:
    absent = "0" * 64
    assert not store.exists(absent)
    for read in (lambda: store.get(absent, tmp_path / "out"), lambda: store.read_bytes(absent, 1), lambda: store.size_bytes(absent)):
        with pytest.raises(PayloadMissing, match=absent):
            read()
    with pytest.raises(PayloadMissing):
        store.tree(absent)
    assert list(tmp_path.glob("*out*")) == []


@pytest.mark.parametrize("damaged", [b"ALPHA", b"alph", b"alpha!"])
def test_changed_bytes_are_never_handed_out(store: Store, folder: Path, tmp_path: Path, damaged: bytes) -> None:
    digest = store.put_folder(folder)
    store.backend.write(blob_key(hashlib.sha256(b"alpha").hexdigest()), damaged)
    with pytest.raises(PayloadChanged, match="differ from their digest"):
        store.get(digest, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*partial"))
    with pytest.raises(PayloadChanged):
        store.read_bytes(digest, 100, "a.txt")


def test_a_changed_tree_is_refused(store: Store, folder: Path, tmp_path: Path) -> None:
    digest = store.put_folder(folder)
    store.backend.write(tree_key(digest), b"[]")
    store._trees.clear()
    with pytest.raises(PayloadChanged):
        store.get(digest, tmp_path / "out")


def test_a_folder_that_lacks_a_file_does_not_exist(store: Store, folder: Path) -> None:
    digest = store.put_folder(folder)
    store.backend.delete(blob_key(hashlib.sha256(b"alpha").hexdigest()))
    assert not store.exists(digest)
    assert {entry.path for entry in store.missing_files(store.tree(digest))} == {"a.txt", "nested/deeper/again.txt"}


def test_existing_files_are_not_replaced_by_a_folder(store: Store, folder: Path, tmp_path: Path) -> None:
    digest = store.put_folder(folder)
    (tmp_path / "out").mkdir()
    store.get(digest, tmp_path / "out")
    with pytest.raises(StoreError, match="absent or empty"):
        store.get(digest, tmp_path / "out")


@pytest.mark.parametrize("num_files", [LIST_FROM_FILES - 1, LIST_FROM_FILES])
def test_what_the_store_has_is_not_sent_again(store: Store, tmp_path: Path, num_files: int) -> None:
    source = tmp_path / "many"
    source.mkdir()
    for index in range(num_files):
        (source / f"{index}").write_bytes(f"content {index}".encode())
    digest = store.put_folder(source, dvc_layout=True)
    before = {info.key: info.modified for info in store.backend.list("dvc/")}
    (source / "new").write_bytes(b"new")
    threading.Event().wait(1.1)  # S3 counts whole seconds
    assert store.put_folder(source, dvc_layout=True) != digest
    after = {info.key: info.modified for info in store.backend.list("dvc/")}
    assert len(after) == len(before) + 2  # the new file and the new .dir object
    assert {key: after[key] for key in before} == before


def test_names_are_taken_once(store: Store) -> None:
    etag = store.put_named("promotions/1", b"one", if_absent=True)
    with pytest.raises(NameTaken):
        store.put_named("promotions/1", b"two", if_absent=True)
    second = store.put_named("promotions/1", b"two", if_match=etag)
    with pytest.raises(NameTaken):
        store.put_named("promotions/1", b"three", if_match=etag)
    found = store.get_named("promotions/1")
    assert found is not None and found.data == b"two" and found.etag == second
    with pytest.raises(NameTaken):
        store.put_named("promotions/absent", b"", if_match=etag)
    assert store.get_named("promotions/absent") is None


def test_of_many_writers_at_once_exactly_one_wins(store: Store) -> None:
    def race(name: str, index: int, **condition: str | bool) -> bool:
        try:
            store.put_named(name, f"writer {index}".encode(), **condition)  # type: ignore[arg-type]
        except NameTaken:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        for attempt in range(2):
            assert sum(pool.map(lambda i, n=f"race/{attempt}": race(n, i, if_absent=True), range(4))) == 1
            found = store.get_named(f"race/{attempt}")
            assert found is not None
            assert sum(pool.map(lambda i, n=f"race/{attempt}", e=found.etag: race(n, 10 + i, if_match=e), range(4))) == 1


def test_names_are_listed_by_prefix_and_deleted(store: Store) -> None:
    for name in ("actions/a", "actions/b.json", "other/c"):
        store.put_named(name, b"x")
    assert store.list_named("actions/") == ["actions/a", "actions/b.json"]
    assert store.list_named("nothing/") == []
    store.delete_named("actions/a")
    store.delete_named("actions/a")
    assert store.list_named("") == ["actions/b.json", "other/c"]


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "../a", "a/../b", "a/.", "a b", "a\n", "x" * (MAX_NAME_CHARS + 1)])
def test_unsafe_names_are_refused(local_store: Store, name: str) -> None:
    with pytest.raises(StoreError, match=r"store\.name"):
        local_store.put_named(name, b"")
    local_store.put_named("x" * 200, b"")


@pytest.mark.parametrize("digest", ["", "abc", "G" * 64, "imagewright://md5/" + "0" * 64, "../" + "0" * 61])
def test_what_is_not_a_digest_is_refused(local_store: Store, digest: str) -> None:
    with pytest.raises(StoreError, match="64 lower-case hex digits"):
        local_store.exists(digest)


def test_check_passes_on_a_usable_store(store: Store) -> None:
    store.check()
    assert store.list_named("") == []


def test_a_put_of_what_is_not_there_says_so(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="the file must exist"):
        store.put_file(tmp_path / "absent")
    with pytest.raises(StoreError, match="must be a folder"):
        store.put_folder(tmp_path / "absent")
