"""Which addresses are accepted as a registry, and what a person's own clone and hooks may do to it."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from imagewright.errors import InputError
from imagewright.registry import DataRegistry, create_repository
from imagewright.registry.repository import LOCK_NAME, STALE_LOCK_SECONDS, commit_lock, remove_stale_locks, resolve_url
from imagewright.storage import Store

MakeFolder = Callable[..., Path]
AUTHOR = "Ada Lovelace <ada@example.com>"


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    return subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def clone(registry: DataRegistry, make_folder: MakeFolder, tmp_path: Path) -> Path:
    """A person's clone of a registry that holds raw@v1."""
    registry.commit("raw", make_folder({"a.txt": "one"}), "First")
    git(tmp_path, "clone", "--quiet", registry.url, "clone")
    return tmp_path / "clone"


@pytest.mark.parametrize("url", ["", "-u", "--upload-pack=touch x", "ext::sh -c true", "https://host/x\nhttps://host/y"])
def test_addresses_that_are_none_are_refused(url: str) -> None:
    with pytest.raises(InputError, match=r"registry\.url: must be a git URL or the path of a repository"):
        resolve_url(url)


def test_a_path_without_a_repository_says_how_to_make_one(tmp_path: Path, store: Store) -> None:
    with pytest.raises(InputError, match=r"must be the path of a git repository.*git init --bare"):
        DataRegistry(tmp_path / "missing.git", store)
    (tmp_path / "plain").mkdir()
    with pytest.raises(InputError, match=r"must be the top of a git repository.*git init --bare"):
        DataRegistry(tmp_path / "plain", store)


def test_a_folder_inside_another_repository_is_not_taken_for_it(clone: Path, store: Store) -> None:
    (clone / "inside").mkdir()
    with pytest.raises(InputError, match="must be the top of a git repository"):
        DataRegistry(clone / "inside", store)


def test_a_clean_clone_stands_for_its_origin(clone: Path, store: Store, make_folder: MakeFolder, repository: Path) -> None:
    registry = DataRegistry(clone, store, identity=AUTHOR)
    assert registry.url == str(repository)
    assert registry.commit("raw", make_folder({"a.txt": "two"}), "Second") == "raw@v2"
    assert git(clone, "status", "--porcelain") == ""


def test_a_clone_with_uncommitted_and_diverged_state_is_refused_with_both_problems(
    clone: Path, store: Store, make_folder: MakeFolder
) -> None:
    (clone / "mine.dvc").write_text("outs: []\n")
    with pytest.raises(InputError, match=r"registry\.clone: must hold no uncommitted changes; received 'mine\.dvc'"):
        DataRegistry(clone, store)
    git(clone, "add", "mine.dvc")
    git(clone, "commit", "--quiet", "--message=Mine")
    with pytest.raises(InputError, match=r"registry\.clone: holds commits that were not pushed.*fix: git push"):
        DataRegistry(clone, store)
    DataRegistry(git(clone, "remote", "get-url", "origin").strip(), store, identity=AUTHOR).commit(
        "raw", make_folder({"a.txt": "two"}), "Second"
    )
    git(clone, "fetch", "--quiet")
    (clone / "raw.dvc").write_text("outs: []\n")
    with pytest.raises(InputError) as caught:
        DataRegistry(clone, store)
    assert [problem.rule for problem in caught.value.problems] == ["must hold no uncommitted changes", "has diverged from its upstream"]


def test_a_work_tree_without_a_remote_is_refused(tmp_path: Path, store: Store) -> None:
    git(tmp_path, "init", "--quiet", "alone")
    with pytest.raises(InputError, match="is a work tree without a remote"):
        DataRegistry(tmp_path / "alone", store)


@pytest.mark.parametrize("made_by", ["us", "plain git"])
def test_nobodys_hooks_run(
    store: Store, make_folder: MakeFolder, tmp_path: Path, no_git_settings: Path, monkeypatch: pytest.MonkeyPatch, made_by: str
) -> None:
    if made_by == "us":
        create_repository(tmp_path / "new.git")
    else:
        git(tmp_path, "init", "--quiet", "--bare", "new.git")
    registry = DataRegistry(tmp_path / "new.git", store, identity=AUTHOR)
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("pre-push", "reference-transaction", "pre-receive", "update", "post-update", "post-checkout", "pre-commit"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
        (hooks / name).chmod(0o755)
    no_git_settings.write_text(f"[core]\n\thooksPath = {hooks}\n[init]\n\ttemplateDir = {tmp_path}\n[commit]\n\tgpgSign = true\n")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert registry.commit("raw", make_folder({"a.txt": "one"}), "First") == "raw@v1"
    assert registry.resolve("raw").version == 1
    assert not (tmp_path / "ran").exists()


def test_a_registry_that_declines_is_not_asked_again_and_again(registry: DataRegistry, make_folder: MakeFolder) -> None:
    hook = Path(registry.url) / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho x >> asked\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(InputError, match=r"registry\.url: refuses the commit: .*pre-receive hook declined.*fix: ask its owner"):
        registry.commit("raw", make_folder({"a.txt": "one"}), "First")
    assert (Path(registry.url) / "asked").read_text() == "x\n"
    assert registry.revisions() == []


def test_a_registry_made_by_plain_git_keeps_its_own_branch(tmp_path: Path, store: Store, make_folder: MakeFolder) -> None:
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=trunk", "plain.git")
    registry = DataRegistry(f"file://{tmp_path}/plain.git", store, identity=AUTHOR)
    registry.commit("raw", make_folder({"a.txt": "one"}), "First")
    git(tmp_path, "clone", "--quiet", "plain.git", "copy")
    assert (tmp_path / "copy/raw.dvc").is_file()


def test_a_server_that_is_gone_is_named_without_its_password(store: Store, make_folder: MakeFolder) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    registry = DataRegistry(f"http://ada:secret@127.0.0.1:{port}/registry.git", store, identity=AUTHOR)
    with pytest.raises(InputError, match=r"registry\.url: cannot be reached") as caught:
        registry.resolve("raw")
    assert "secret" not in str(caught.value)
    with pytest.raises(InputError, match=r"registry\.url: cannot be reached"):
        registry.commit("raw", make_folder({"a.txt": "one"}), "First")


@pytest.mark.parametrize(("status", "rule"), [(401, "refuses access"), (404, "must be a git repository"), (500, "cannot be reached")])
def test_a_server_that_answers_otherwise_is_understood(store: Store, status: int, rule: str) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with pytest.raises(InputError, match=rf"registry\.url: {rule}"):
            DataRegistry(f"http://127.0.0.1:{server.server_port}/registry.git", store).resolve("raw")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_making_a_registry_twice_keeps_the_first(repository: Path, registry: DataRegistry, make_folder: MakeFolder) -> None:
    registry.commit("raw", make_folder({"a.txt": "one"}), "First")
    assert create_repository(repository) == repository
    assert registry.resolve("raw").version == 1
    assert [path.name for path in repository.parent.iterdir() if path.name.startswith(".registry")] == []


def test_the_lock_of_a_killed_push_is_removed_and_a_fresh_one_is_not(repository: Path) -> None:
    (repository / "refs/tags").mkdir(exist_ok=True)
    stale, fresh = repository / "refs/tags/raw@v1.lock", repository / "refs/heads/main.lock"
    now = time.time()
    for path, age in ((stale, STALE_LOCK_SECONDS + 0.5), (fresh, STALE_LOCK_SECONDS - 2)):
        path.touch()
        os.utime(path, (now - age, now - age))
    remove_stale_locks(repository)
    assert fresh.exists() and not stale.exists()


@pytest.mark.parametrize("lock", ["HEAD.lock", "packed-refs.lock", "refs/heads/main.lock", "refs/tags/raw@v1.lock"])
def test_a_commit_goes_through_after_a_push_was_killed_with_its_locks_held(
    registry: DataRegistry, make_folder: MakeFolder, lock: str
) -> None:
    path = Path(registry.url) / lock
    path.parent.mkdir(exist_ok=True)
    path.touch()
    os.utime(path, (0, 0))
    assert registry.commit("raw", make_folder({"a.txt": "one"}), "First") == "raw@v1"
    assert not path.exists()


def test_a_commit_waits_for_a_lock_that_may_still_be_held(registry: DataRegistry, make_folder: MakeFolder) -> None:
    path = Path(registry.url) / "HEAD.lock"
    path.touch()
    assert registry.commit("raw", make_folder({"a.txt": "one"}), "First") == "raw@v1"
    assert not path.exists()


def test_committers_on_one_machine_wait_for_each_other(repository: Path) -> None:
    order = []
    with commit_lock(repository) as descriptor:
        assert descriptor is not None

        def wait() -> None:
            with commit_lock(repository):
                order.append("second")

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert (repository / LOCK_NAME).exists()
