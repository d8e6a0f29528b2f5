"""What a person sees when datasets are committed, found again and brought back."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from imagewright.errors import InputError
from imagewright.registry import DataRegistry, open_registry, registry_from_environment
from imagewright.registry.registry import JOB_IDENTITY
from imagewright.storage import Store, StoreError

MakeFolder = Callable[..., Path]


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_revisions_count_up_and_each_stays_what_it_was(registry: DataRegistry, make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder({"a.txt": "one", "sub/é.txt": "two"})
    assert registry.commit("raw", folder, "First samples") == "raw@v1"
    (folder / "a.txt").write_text("changed")
    assert registry.commit("raw", folder, "Second look") == "raw@v2"
    assert registry.commit("curated", folder, "Another dataset") == "curated@v1"
    registry.checkout("raw@v1", tmp_path / "old")
    registry.checkout("raw", tmp_path / "new")
    assert (tmp_path / "old/a.txt").read_text() == "one"
    assert (tmp_path / "old/sub/é.txt").read_text() == "two"
    assert (tmp_path / "new/a.txt").read_text() == "changed"


def test_log_tells_newest_first_who_when_and_why(registry: DataRegistry, make_folder: MakeFolder) -> None:
    folder = make_folder({"a.txt": "one"})
    registry.commit("raw", folder, "First\n\nWith a reason.\n\nRevision: raw@v9\nDigest: made up")
    (folder / "b.txt").write_text("22")
    registry.commit("raw", folder, "Second")
    newest, oldest = registry.log("raw")
    assert (str(newest), newest.num_files, newest.size_bytes, newest.author) == ("raw@v2", 2, 5, "Ada Lovelace")
    assert str(oldest) == "raw@v1"
    assert oldest.message == "First\n\nWith a reason.\n\nRevision: raw@v9\nDigest: made up"
    assert newest.committed_at >= oldest.committed_at and newest.committed_at.endswith("Z")


def test_resolve_takes_a_name_the_latest_or_a_version(registry: DataRegistry, make_folder: MakeFolder) -> None:
    folder = make_folder({"a.txt": "one"})
    registry.commit("raw", folder, "First")
    (folder / "a.txt").write_text("two")
    registry.commit("raw", folder, "Second")
    assert registry.resolve("raw") == registry.resolve("raw@latest") == registry.resolve("raw@v2")
    first = registry.resolve("raw@v1")
    assert first.digest != registry.resolve("raw@v2").digest
    assert first.commit == git(Path(registry.url), "rev-parse", "raw@v1^{commit}").strip()


def test_the_same_payload_again_is_the_same_revision(registry: DataRegistry, make_folder: MakeFolder) -> None:
    folder = make_folder({"a.txt": "one"})
    registry.commit("raw", folder, "First")
    (folder / "a.txt").write_text("two")
    registry.commit("raw", folder, "Second")
    before = git(Path(registry.url), "for-each-ref")
    assert registry.commit("raw", folder, "Said again") == "raw@v2"
    (folder / "a.txt").write_text("one")
    assert registry.commit("raw", folder, "Back to the first") == "raw@v1"
    assert git(Path(registry.url), "for-each-ref") == before


def test_a_stored_payload_is_committed_by_digest_or_uri(registry: DataRegistry, store: Store, make_folder: MakeFolder) -> None:
    digest = store.put_folder(make_folder({"a.txt": "one"}), dvc_layout=True)
    assert registry.commit("raw", digest, "By digest") == "raw@v1"
    assert registry.commit("again", f"imagewright://sha256/{digest}", "By URI") == "again@v1"
    assert registry.resolve("raw").digest == registry.resolve("again").digest == digest


def test_a_single_file_becomes_a_folder_of_one(registry: DataRegistry, make_folder: MakeFolder, tmp_path: Path) -> None:
    registry.commit("table", make_folder({"rows.csv": "a,b"}) / "rows.csv", "One table")
    registry.checkout("table", tmp_path / "out")
    assert (tmp_path / "out/rows.csv").read_text() == "a,b"


@pytest.mark.parametrize("name", ["Raw", "raw@v1", "-raw", "raw--x", "raw/x", "../raw", "raw.lock", "", "r" * 65, "räw", "raw\n"])
def test_a_name_that_breaks_the_pattern_is_refused_before_anything_is_stored(
    registry: DataRegistry, store: Store, make_folder: MakeFolder, name: str
) -> None:
    with pytest.raises(InputError, match=r"registry\.name: must be a dataset name"):
        registry.commit(name, make_folder({"a.txt": "one"}), "First")
    assert not list(store.backend.list(""))


def test_the_longest_name_is_taken(registry: DataRegistry, make_folder: MakeFolder) -> None:
    assert registry.commit("r" * 64, make_folder({"a.txt": "one"}), "First") == "r" * 64 + "@v1"


def test_unknown_datasets_and_revisions_name_the_nearest(registry: DataRegistry, make_folder: MakeFolder) -> None:
    with pytest.raises(InputError, match="the registry is empty"):
        registry.resolve("raw")
    registry.commit("curated", make_folder({"a.txt": "one"}), "First")
    with pytest.raises(InputError, match=r"did you mean curated\?"):
        registry.resolve("curatd@v1")
    with pytest.raises(InputError, match="the registry holds curated"):
        registry.log("zzz")
    with pytest.raises(InputError, match=r"nearest revisions: curated@v1"):
        registry.resolve("curated@v2")
    with pytest.raises(InputError, match=r"must be name, name@latest or name@v<number>.*'curated@3'"):
        registry.resolve("curated@3")


def test_a_checkout_overwrites_nothing(registry: DataRegistry, make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder({"a.txt": "one"})
    registry.commit("raw", folder, "First")
    with pytest.raises(InputError, match=r"checkout\.folder: must be new or empty"):
        registry.checkout("raw", folder)
    (tmp_path / "empty").mkdir()
    registry.checkout("raw", tmp_path / "empty")
    assert (tmp_path / "empty/a.txt").read_text() == "one"


@pytest.mark.parametrize("message", ["", "  \n", "with\x00nul", "with\x01mark", "x" * 4001])
def test_a_message_must_say_something_printable(registry: DataRegistry, make_folder: MakeFolder, message: str) -> None:
    with pytest.raises(InputError, match=r"commit\.message: must be 1 to 4000 printable characters"):
        registry.commit("raw", make_folder({"a.txt": "one"}), message)


def test_payloads_that_cannot_be_pulled_are_refused(registry: DataRegistry, store: Store, make_folder: MakeFolder, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="was not stored in DVC's layout"):
        registry.commit("raw", store.put_folder(make_folder({"a.txt": "one"})), "Wrong layout")
    with pytest.raises(StoreError, match="holds no folder under this digest"):
        registry.commit("raw", "0" * 64, "Nothing there")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"commit\.path: must hold at least one file"):
        registry.commit("raw", tmp_path / "empty", "Empty")
    with pytest.raises(InputError, match=r"commit\.path: must be a folder, a file or a payload digest"):
        registry.commit("raw", tmp_path / "missing", "Missing")
    assert registry.revisions() == []


def test_a_payload_with_a_lost_file_is_not_published(registry: DataRegistry, store: Store, make_folder: MakeFolder) -> None:
    digest = store.put_folder(make_folder({"a.txt": "one"}), dvc_layout=True)
    for info in list(store.backend.list("dvc/")):
        store.backend.delete(info.key)
    with pytest.raises(InputError, match=r"commit\.digest: must be complete in the store"):
        registry.commit("raw", digest, "Lost")


def test_without_a_git_identity_the_fix_is_said(repository: Path, store: Store, make_folder: MakeFolder, no_git_settings: Path) -> None:
    registry = DataRegistry(repository, store)
    with pytest.raises(InputError, match=r"registry\.identity: git must know who commits.*git config --global user\.name"):
        registry.commit("raw", make_folder({"a.txt": "one"}), "First")
    no_git_settings.write_text("[user]\n\tname = Grace Hopper\n\temail = grace@example.com\n")
    registry.commit("raw", make_folder({"a.txt": "one"}), "First")
    assert registry.resolve("raw").author == "Grace Hopper"
    with pytest.raises(InputError, match=r"registry\.identity: must be written as Name <mail>"):
        DataRegistry(repository, store, identity="nobody")


def test_the_default_registry_is_made_beside_the_store(store: Store, make_folder: MakeFolder, tmp_path: Path) -> None:
    open_registry(None, store, identity="A B <a@example.com>").commit("raw", make_folder({"a.txt": "one"}), "First")
    assert open_registry(None, store).resolve("raw").version == 1
    assert (tmp_path / "registry.git/HEAD").is_file()


def test_a_pipeline_run_commits_without_anybodys_identity(
    repository: Path, store: Store, make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGEWRIGHT_REGISTRY_URL", str(repository))
    monkeypatch.setenv("IMAGEWRIGHT_PIPELINE_RUN", "run-1")
    registry = registry_from_environment(store)
    registry.commit("raw", make_folder({"a.txt": "one"}), "First")
    assert registry.resolve("raw").author == JOB_IDENTITY.split(" <")[0]
