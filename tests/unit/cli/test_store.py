"""`imagewright store` from a terminal: what it lists, what it refuses, and that it deletes only when told to."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from imagewright.cli.store import app
from imagewright.errors import InputError
from imagewright.storage import Store, open_store
from imagewright.storage.local_backend import LocalBackend


@pytest.fixture
def old_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store of two files that are two days old."""
    url = f"file://{tmp_path}/store"
    monkeypatch.setenv("IMAGEWRIGHT_STORE_URL", url)
    store = open_store(url)
    backend = store.backend
    assert isinstance(backend, LocalBackend)
    store.put_bytes(b"kept")
    store.put_bytes(b"lost")
    old = time.time() - 2 * 86_400
    for info in list(backend.list("blobs/")):
        os.utime(backend.root / info.key, (old, old))
    return store


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def refused(result: Result) -> str:
    assert isinstance(result.exception, InputError), result.output
    return str(result.exception)


def num_blobs(store: Store) -> int:
    return len(list(store.backend.list("blobs/")))


def test_gc_reports_by_default_and_deletes_when_told(old_store: Store, tmp_path: Path) -> None:
    kept = old_store.put_bytes(b"kept")
    roots = tmp_path / "roots"
    roots.write_text(f"# champions\n\nimagewright://sha256/{kept}  # base\n", encoding="utf-8")
    assert "nothing was deleted" in run("gc", "--roots", str(roots)).output and num_blobs(old_store) == 2
    assert run("gc", "--roots", str(roots), "--delete").exit_code == 0
    assert num_blobs(old_store) == 1 and old_store.exists(kept)


def test_gc_without_roots_deletes_nothing(old_store: Store) -> None:
    assert "must name at least one payload to keep" in refused(run("gc", "--delete"))
    assert num_blobs(old_store) == 2


def test_a_mistyped_root_stops_gc_and_every_one_is_named(old_store: Store, tmp_path: Path) -> None:
    roots = tmp_path / "roots"
    roots.write_text("abc\n" + "0" * 64 + "\nxyz\n", encoding="utf-8")
    message = refused(run("gc", "--roots", str(roots), "--delete"))
    assert "line 1 must be a digest" in message and "line 3 must be a digest" in message and num_blobs(old_store) == 2
    assert "cannot be read" in refused(run("gc", "--roots", str(tmp_path / "absent")))


def test_ls_counts_the_store_and_lists_a_folder(old_store: Store, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "[bold]a.txt").write_bytes(b"x")
    digest = old_store.put_folder(tmp_path / "in")
    assert "folders" in run("ls").output
    assert run("ls", digest).output.rstrip().endswith("[bold]a.txt")


def test_verify_names_what_changed(old_store: Store, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(b"kept")
    digest = old_store.put_folder(tmp_path / "in")
    assert "1 payloads are intact" in run("verify").output
    sha256 = old_store.tree(digest)[0].sha256
    old_store.backend.write(f"blobs/{sha256[:2]}/{sha256[2:]}", b"KEPT")
    assert f"{digest}/a" in refused(run("verify"))
