"""What a commit makes of a registry that others also write to, or where a push was cut off."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from imagewright.registry import DataRegistry

MakeFolder = Callable[..., Path]


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    return subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


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
