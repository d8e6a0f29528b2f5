"""What a clone reads from tags, and what a push does when somebody else was first or was cut off."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from imagewright.registry import DataRegistry
from imagewright.registry.private_clone import RevisionCommit, commit_message, parse_commit, private_clone, tag_reference

MakeFolder = Callable[..., Path]
AUTHOR = "Ada Lovelace <ada@example.com>"


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    return subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def revision_commit(name: str, version: int) -> RevisionCommit:
    return RevisionCommit(name, version, {f"{name}.json": b"{}"}, commit_message("First", name, version, "a" * 64, 1, 2))


def test_the_second_of_two_pushes_changes_nothing(repository: Path) -> None:
    with private_clone(str(repository), repository) as first, private_clone(str(repository), repository) as second:
        for clone, name, accepted in ((first, "raw", True), (second, "other", False)):
            commit = clone.add(revision_commit(name, 1), AUTHOR)
            assert clone.push({f"refs/heads/{clone.branch}": commit, tag_reference(name, 1): commit}, None) is accepted
    assert git(repository, "for-each-ref", "--format=%(refname)").split() == ["refs/heads/main", "refs/tags/raw@v1"]


def test_a_tag_is_never_moved(repository: Path) -> None:
    with private_clone(str(repository), repository) as clone:
        commit = clone.add(revision_commit("raw", 1), AUTHOR)
        assert clone.push({"refs/heads/main": commit, tag_reference("raw", 1): commit}, None)
        clone.fetch()
        again = clone.add(revision_commit("raw", 1), AUTHOR)
        assert not clone.push({"refs/heads/main": again, tag_reference("raw", 1): again}, None)
    assert git(repository, "rev-parse", "raw@v1") == git(repository, "rev-parse", "main") == commit


def test_a_push_cut_off_before_its_tag_is_invisible_until_the_next_commit_completes_it(
    registry: DataRegistry, make_folder: MakeFolder
) -> None:
    folder = make_folder({"a.txt": "one"})
    registry.commit("raw", folder, "First")
    git(Path(registry.url), "tag", "--delete", "raw@v1")
    assert registry.revisions() == []
    assert registry.commit("other", folder, "Another dataset") == "other@v1"
    assert [str(revision) for revision in registry.revisions()] == ["other@v1", "raw@v1"]


def test_the_retry_of_a_commit_cut_off_before_its_tag_is_that_revision(registry: DataRegistry, make_folder: MakeFolder) -> None:
    folder = make_folder({"a.txt": "one"})
    registry.commit("raw", folder, "First")
    tip = git(Path(registry.url), "rev-parse", "main")
    git(Path(registry.url), "tag", "--delete", "raw@v1")
    assert registry.commit("raw", folder, "First") == "raw@v1"
    assert git(Path(registry.url), "rev-parse", "main", "raw@v1^{commit}").split() == [tip, tip]


def test_other_commits_files_and_tags_are_left_alone(registry: DataRegistry, make_folder: MakeFolder, tmp_path: Path) -> None:
    registry.commit("raw", make_folder({"a.txt": "one"}), "First")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", registry.url, "clone")
    (clone / "README.md").write_text("Our datasets\n")
    (clone / ".dvc/config").write_text((clone / ".dvc/config").read_text() + "    jobs = 2\n")
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message=Say what this is")
    git(clone, "tag", "--annotate", "--message=Milestone", "release")
    git(clone, "tag", "raw@v2")
    git(clone, "push", "--quiet", "--tags", "origin", "main")
    assert [str(revision) for revision in registry.log("raw")] == ["raw@v1"]
    assert registry.commit("other", make_folder({"a.txt": "two"}), "Another") == "other@v1"
    assert registry.commit("raw", make_folder({"a.txt": "two"}), "Second") == "raw@v3"
    assert git(Path(registry.url), "show", "main:README.md") == "Our datasets"
    assert "jobs = 2" in git(Path(registry.url), "show", "main:.dvc/config")
    assert git(Path(registry.url), "show", "main:.gitignore").splitlines() == ["/raw", "/other"]


def test_a_commit_that_is_not_ours_is_no_revision() -> None:
    head = "refs/tags/raw@v1\x00" + "c" * 40 + "\x00Ada\x001700000000\x00"
    ours = parse_commit(head + commit_message("Subject\n\nBody", "raw", 1, "a" * 64, 3, 4))
    assert ours is not None
    assert (str(ours), ours.message, ours.committed_at) == ("raw@v1", "Subject\n\nBody", "2023-11-14T22:13:20Z")
    assert parse_commit(head + "Subject\n\nRevision: raw@v1\n") is None
    assert parse_commit(head + "Subject") is None
    assert parse_commit("") is None
