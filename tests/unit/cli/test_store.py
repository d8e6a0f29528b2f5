"""`imagewright store` from a terminal: what it lists, what it refuses, and that it deletes only when told to."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from imagewright.cli.store import app
from imagewright.errors import InputError
from imagewright.registry import open_registry
from imagewright.storage import Store, open_store
from imagewright.storage.local_backend import LocalBackend
from imagewright.tracking.models import ModelRegistry

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "fixtures"))
from mlflow_server import running_mlflow


@pytest.fixture
def old_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store of two files that are two days old."""
    url = f"file://{tmp_path}/store"
    monkeypatch.setenv("IMAGEWRIGHT_STORE_URL", url)
    for name in ("IMAGEWRIGHT_REGISTRY_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
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


def aged(store: Store) -> None:
    """Makes every payload two days old."""
    backend = store.backend
    assert isinstance(backend, LocalBackend)
    old = time.time() - 2 * 86_400
    for info in [*backend.list("blobs/"), *backend.list("trees/"), *backend.list("dvc/")]:
        os.utime(backend.root / info.key, (old, old))


def test_gc_keeps_every_revision_of_the_data_registry(old_store: Store, tmp_path: Path) -> None:
    registry = open_registry(None, old_store, identity="Ada Lovelace <ada@example.com>")
    for version in ("first", "second"):
        folder = tmp_path / version
        folder.mkdir()
        (folder / "a.txt").write_text(version, encoding="utf-8")
        registry.commit("shapes", folder, f"Add the {version}")
    (tmp_path / "first" / "b.txt").write_text("nobody's", encoding="utf-8")
    forgotten = old_store.put_folder(tmp_path / "first")
    aged(old_store)
    assert run("gc", "--delete").exit_code == 0
    for version in ("first", "second"):
        registry.checkout(f"shapes@v{1 + (version == 'second')}", tmp_path / f"out-{version}")
        assert (tmp_path / f"out-{version}" / "a.txt").read_text(encoding="utf-8") == version
    assert not old_store.exists(forgotten)


def test_gc_keeps_what_model_versions_mention(old_store: Store, tmp_path: Path) -> None:
    weights, evidence = old_store.put_bytes(b"kept"), old_store.put_bytes(b"judged")
    (tmp_path / "mlflow").mkdir()
    with running_mlflow(tmp_path / "mlflow") as uri:
        registry = ModelRegistry(uri)
        registry.log_scores(registry.register("turbo", weights), {}, {"geneval": evidence})
        aged(old_store)
        assert run("gc", "--delete", "--tracking", uri).exit_code == 0
    assert old_store.exists(weights) and old_store.exists(evidence) and num_blobs(old_store) == 2


def test_gc_stops_when_the_registry_it_is_told_of_is_not_there(old_store: Store, tmp_path: Path) -> None:
    kept = tmp_path / "roots"
    kept.write_text(old_store.put_bytes(b"kept"), encoding="utf-8")
    message = refused(run("gc", "--roots", str(kept), "--delete", "--registry", str(tmp_path / "absent.git")))
    assert "must be the path of a git repository" in message and num_blobs(old_store) == 2


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
