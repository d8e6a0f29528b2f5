"""What a clone reads from tags, and what a push does when somebody else was first or was cut off."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from imagewright.registry.private_clone import (
    KEPT_AFTER_KILL_SECONDS,
    RevisionCommit,
    commit_message,
    parse_commit,
    private_clone,
    tag_reference,
)

MakeFolder = Callable[..., Path]
AUTHOR = "Ada Lovelace <ada@example.com>"


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    return subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def revision_commit(name: str, version: int) -> RevisionCommit:
    return RevisionCommit(name, version, {f"{name}.json": b"{}"}, commit_message("First", name, version, "a" * 64, 1, 2))


def test_the_second_of_two_pushes_changes_nothing(repository: Path) -> None:
    with private_clone(str(repository), repository) as first, private_clone(str(repository), repository) as second:
        first.fetch()
        second.fetch()
        for clone, name, accepted in ((first, "raw", True), (second, "other", False)):
            commit = clone.add(revision_commit(name, 1), AUTHOR)
            assert clone.push({f"refs/heads/{clone.branch}": commit, tag_reference(name, 1): commit}, None) is accepted
    assert git(repository, "for-each-ref", "--format=%(refname)").split() == ["refs/heads/main", "refs/tags/raw@v1"]


def test_a_tag_is_never_moved(repository: Path) -> None:
    with private_clone(str(repository), repository) as clone:
        clone.fetch()
        commit = clone.add(revision_commit("raw", 1), AUTHOR)
        assert clone.push({"refs/heads/main": commit, tag_reference("raw", 1): commit}, None)
        clone.fetch()
        again = clone.add(revision_commit("raw", 1), AUTHOR)
        assert not clone.push({"refs/heads/main": again, tag_reference("raw", 1): again}, None)
    assert git(repository, "rev-parse", "raw@v1") == git(repository, "rev-parse", "main") == commit


def test_clones_of_killed_commits_go_after_a_day(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    old, young, other = tmp_path / "imagewright-registry-old", tmp_path / "imagewright-registry-young", tmp_path / "somebody-elses"
    for folder, age in ((old, KEPT_AFTER_KILL_SECONDS + 60), (young, KEPT_AFTER_KILL_SECONDS - 60), (other, 10 * KEPT_AFTER_KILL_SECONDS)):
        (folder / "objects").mkdir(parents=True)
        os.utime(folder, (time.time() - age, time.time() - age))
    with private_clone(str(repository), repository) as clone:
        assert clone.folder.parent == tmp_path
        assert (old.exists(), young.exists(), other.exists()) == (False, True, True)
    assert not clone.folder.exists()


def test_a_commit_that_is_not_ours_is_no_revision() -> None:
    head = "refs/tags/raw@v1\x00" + "c" * 40 + "\x00Ada\x001700000000\x00"
    ours = parse_commit(head + commit_message("Subject\n\nBody", "raw", 1, "a" * 64, 3, 4))
    assert ours is not None
    assert (str(ours), ours.message, ours.committed_at) == ("raw@v1", "Subject\n\nBody", "2023-11-14T22:13:20Z")
    assert parse_commit(head + "Subject\n\nRevision: raw@v1\n") is None
    assert parse_commit(head + "Subject") is None
    assert parse_commit("") is None
