"""Many committers at once, and committers that are killed: no commit is lost, doubled or seen by halves."""

from __future__ import annotations

import multiprocessing
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.killed_commits import kill_commits

from imagewright.registry import DataRegistry
from imagewright.registry.pointers import parse_dataset_record
from imagewright.storage import Store, open_store

NUM_COMMITTERS = 24
AUTHOR = "Ada Lovelace <ada@example.com>"
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def git_server(repository: Path) -> Iterator[str]:
    """The registry behind a real git server: a remote without a lock, where pushes are rejected."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--export-all", "--enable=receive-pack", "--reuseaddr", "--listen=127.0.0.1", "--max-connections=64"]
    server = subprocess.Popen(["git", "daemon", f"--port={port}", f"--base-path={repository.parent}", *options, str(repository.parent)])
    try:
        deadline = time.monotonic() + 20
        while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
            assert time.monotonic() < deadline, "git daemon did not start"
            time.sleep(0.05)
        yield f"git://127.0.0.1:{port}/{repository.name}"
    finally:
        server.terminate()
        server.wait(timeout=10)


def commit_one(url: str, store_url: str, folder: Path, number: int, name: str) -> None:
    payload = folder / f"payload-{number}"
    payload.mkdir()
    (payload / "sample.txt").write_text(str(number))
    revision = DataRegistry(url, open_store(store_url), identity=AUTHOR).commit(name, payload, f"Payload {number}")
    (folder / f"returned-{number}").write_text(revision)


def commit_together(url: str, store: Store, folder: Path, names: list[str]) -> list[str]:
    processes = [FORK.Process(target=commit_one, args=(url, store.url, folder, number, name)) for number, name in enumerate(names)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(names)
    return [(folder / f"returned-{number}").read_text() for number in range(len(names))]


def check_all_there(registry: DataRegistry, repository: Path, returned: list[str]) -> None:
    assert sorted(str(revision) for revision in registry.revisions()) == sorted(returned)
    assert len(set(returned)) == NUM_COMMITTERS
    assert len({revision.digest for revision in registry.revisions()}) == NUM_COMMITTERS
    shown = ["git", "rev-list", "--count", "main"]
    assert int(subprocess.run(shown, cwd=repository, check=True, capture_output=True, text=True).stdout) == NUM_COMMITTERS


@pytest.mark.e2e
def test_24_commits_of_one_dataset_at_the_same_time_lose_none(
    registry: DataRegistry, repository: Path, store: Store, tmp_path: Path
) -> None:
    returned = commit_together(str(repository), store, tmp_path, ["raw"] * NUM_COMMITTERS)
    check_all_there(registry, repository, returned)
    assert sorted(returned) == sorted(f"raw@v{version}" for version in range(1, NUM_COMMITTERS + 1))


@pytest.mark.e2e
def test_24_commits_to_a_git_server_at_the_same_time_lose_none(
    registry: DataRegistry, repository: Path, store: Store, git_server: str, tmp_path: Path
) -> None:
    names = [f"set-{number % 6}" for number in range(NUM_COMMITTERS)]
    returned = commit_together(git_server, store, tmp_path, names)
    check_all_there(registry, repository, returned)
    for revision in registry.revisions():
        shown = ["git", "show", f"{revision.commit}:{revision.name}.json"]
        text = subprocess.run(shown, cwd=repository, check=True, capture_output=True).stdout
        assert parse_dataset_record(text, str(revision)).digest == revision.digest
    assert DataRegistry(git_server, store).resolve("set-0").version == 4


@pytest.mark.e2e
def test_killed_commits_leave_nothing_lost_half_visible_or_doubled(tmp_path: Path) -> None:
    tally = kill_commits(tmp_path, 12, seed=7)
    assert (tally.num_kills, tally.num_lost, tally.num_half_visible, tally.num_duplicated) == (12, 0, 0, 0)
    assert tally.num_revisions >= tally.num_returned
