"""What a person reads when the folder of a local store is missing, read-only or full; and that nothing half-written is visible."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imagewright.storage import Store, StoreAccessDenied, StoreError, open_store
from imagewright.storage.local_backend import TEMPORARY_FOLDER, LocalBackend

NOBODY = 65534


@contextmanager
def without_root() -> Iterator[None]:
    """File modes do not bind root; inside they bind."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_store_is_read_and_refuses_to_be_written() -> None:
    with tempfile.TemporaryDirectory() as folder:
        digest = open_store(f"file://{folder}").put_bytes(b"data")
        for path in (Path(folder), *Path(folder).rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        store = open_store(f"file://{folder}")
        with without_root():
            assert store.read_bytes(digest, 4) == b"data"
            for write in (lambda: store.put_bytes(b"more"), lambda: store.put_named("a", b"", if_absent=True)):
                with pytest.raises(StoreAccessDenied, match="must allow to write"):
                    write()
        Path(folder).chmod(0o755)


def test_a_store_on_a_place_that_is_not_mounted_is_named(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/not/mounted")
    with pytest.raises(StoreError, match=r"store\.url: must exist to write"):
        store.put_bytes(b"data")
    assert store.get_named("a") is None and store.list_named("") == []
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match=r"store\.url"):
        open_store(f"file://{tmp_path}/file").put_bytes(b"data")


FULL_DISK = """
import resource, sys
from pathlib import Path
from imagewright.storage import StoreError, open_store
store, source, out = open_store(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
small = store.put_bytes(b"small")
large = store.put_file(source)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
changed = source.with_name("changed"); changed.symlink_to(source)
for work in (lambda: store.put_file(Path(sys.argv[4])), lambda: store.put_named("n", b"x" * (2 << 20)), lambda: store.get(large, out)):
    try:
        work()
    except StoreError as error:
        print(error)
store.get(small, out)
"""


def test_a_full_disk_is_named_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    size = 9 << 20
    (tmp_path / "first").write_bytes(b"a" * size)
    (tmp_path / "second").write_bytes(b"b" * size)
    url = f"file://{tmp_path}/store"
    arguments = [url, str(tmp_path / "first"), str(tmp_path / "out"), str(tmp_path / "second")]
    done = subprocess.run([sys.executable, "-c", FULL_DISK, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.count("store.disk: has no room left to write") == 3, done.stdout + done.stderr
    store = open_store(url)
    backend = store.backend
    assert isinstance(backend, LocalBackend)
    assert len(list(backend.list("blobs/"))) == 2 and store.list_named("") == []
    assert list((backend.root / TEMPORARY_FOLDER).iterdir()) == []
    assert (tmp_path / "out").read_bytes() == b"small" and not list(tmp_path.glob(".*partial"))


def test_a_writer_that_died_leaves_nothing_that_is_listed(local_store: Store) -> None:
    local_store.put_bytes(b"x")
    backend = local_store.backend
    assert isinstance(backend, LocalBackend)
    (backend.root / TEMPORARY_FOLDER / "half").write_bytes(b"ha")
    assert [info.size_bytes for info in backend.list("")] == [1]
