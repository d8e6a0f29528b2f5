"""A job that makes a dataset commits its payload once, and its record says as which revision."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fixtures.orchard import Orchard

from imagewright.errors import InputError
from imagewright.jobs.job import job_modules, load_job
from imagewright.registry import DataRegistry, create_repository
from imagewright.storage import open_store

HOOK = """#!/bin/sh
rm "$0"
{command}
"""


@pytest.fixture
def registry(orchard: Orchard, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataRegistry]:
    """An empty registry that the orchard's jobs find in their environment; nobody's git settings are read."""
    (orchard.folder / "gitconfig").touch()
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(orchard.folder / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    path = create_repository(orchard.folder / "registry.git")
    orchard.environ["IMAGEWRIGHT_REGISTRY_URL"] = str(path)
    yield DataRegistry(path, open_store(orchard.environ["IMAGEWRIGHT_STORE_URL"]))


def hook(registry: DataRegistry, command: str) -> None:
    """Runs a command in the registry when the next commit arrives there."""
    path = Path(registry.url) / "hooks" / "pre-receive"
    path.parent.mkdir(exist_ok=True)
    path.write_text(HOOK.format(command=command))
    path.chmod(0o755)


def test_every_job_that_makes_a_dataset_names_it() -> None:
    jobs = [load_job(name)[0] for name in job_modules()]
    names = [job.dataset for job in jobs if job.kind == "dataset"]
    assert all(names)
    assert len(set(names)) == len(names)
    assert {"raw", "curated", "latents", "sft", "preferences"} <= set(names)
    assert not [job.name for job in jobs if job.dataset and job.kind != "dataset"]


def test_a_payload_is_committed_once_and_named_in_the_record(orchard: Orchard, registry: DataRegistry) -> None:
    orchard.plant("grow-apple", dataset="apples")
    orchard.plant("cook-jam", "jam of ", inputs=("apple",), dataset="jam")
    apple = orchard.run("grow-apple")
    jam = orchard.run("cook-jam", {"apple": apple})
    assert (apple.revision, jam.revision) == ("apples@v1", "jam@v1")
    assert orchard.run("grow-apple") == apple
    assert [(str(one), one.digest) for one in registry.revisions()] == [("apples@v1", apple.digest), ("jam@v1", jam.digest)]
    assert json.loads((orchard.folder / "run" / "steps" / "cook-jam.json").read_text())["revision"] == "jam@v1"
    [made] = registry.log("jam")
    assert made.message.splitlines()[0] == "cook-jam, recipe default"
    assert {"From apple: apples@v1", "Run: test-run", "Code: c0ffee"} <= set(made.message.splitlines())


def test_other_bytes_are_the_next_revision_and_former_bytes_the_former(orchard: Orchard, registry: DataRegistry) -> None:
    orchard.plant("grow-apple", dataset="apples")
    orchard.run("grow-apple")
    orchard.plant("grow-apple", "pear", dataset="apples")
    assert orchard.run("grow-apple").revision == "apples@v2"
    orchard.plant("grow-apple", "apple", dataset="apples", body="unused = 1")
    assert orchard.run("grow-apple").revision == "apples@v1"
    assert len(registry.log("apples")) == 2


def test_without_a_registry_a_job_works_and_a_later_run_names_its_payload(orchard: Orchard, registry: DataRegistry) -> None:
    orchard.plant("grow-apple", dataset="apples")
    first = orchard.run("grow-apple", IMAGEWRIGHT_REGISTRY_URL="")
    assert (first.revision, registry.revisions()) == ("", [])
    assert orchard.run("grow-apple").revision == "apples@v1"
    assert orchard.run("grow-apple", IMAGEWRIGHT_REGISTRY_URL="").revision == "apples@v1"
    assert orchard.times_run("grow-apple") == 1


def test_a_registry_that_is_none_is_refused_before_the_work(orchard: Orchard) -> None:
    orchard.plant("grow-apple", dataset="apples")
    with pytest.raises(InputError, match=r"registry\.url"):
        orchard.run("grow-apple", IMAGEWRIGHT_REGISTRY_URL=str(orchard.folder / "nowhere.git"))
    assert orchard.times_run("grow-apple") == 0


def test_a_refused_commit_fails_the_step_and_the_next_attempt_only_commits(orchard: Orchard, registry: DataRegistry) -> None:
    orchard.plant("grow-apple", dataset="apples")
    hook(registry, "echo closed for today >&2; exit 1")
    with pytest.raises(InputError, match="refuses the commit"):
        orchard.run("grow-apple")
    assert registry.revisions() == []
    assert orchard.run("grow-apple").revision == "apples@v1"
    assert (orchard.times_run("grow-apple"), len(registry.revisions())) == (1, 1)


@pytest.mark.parametrize("arrives", [True, False])
def test_killed_while_committing_nothing_is_lost_or_doubled(orchard: Orchard, registry: DataRegistry, arrives: bool) -> None:
    pid = orchard.folder / "pid"
    orchard.plant("grow-apple", dataset="apples", body=f"import os, pathlib; pathlib.Path({str(pid)!r}).write_text(str(os.getpid()))")
    hook(registry, f"kill -9 $(cat {pid}); exit {0 if arrives else 1}")
    assert orchard.child("grow-apple").wait(60) == -9
    again = orchard.run("grow-apple")
    assert again.revision == "apples@v1"
    assert [one.digest for one in registry.revisions()] == [again.digest]
    assert orchard.run("grow-apple") == again


def test_jobs_that_finish_together_lose_no_revision(orchard: Orchard, registry: DataRegistry) -> None:
    names = [f"grow-{fruit}" for fruit in ("apple", "pear", "plum", "fig", "lime", "date")]
    for name in names:
        orchard.plant(name, name, dataset="fruits")
    with ThreadPoolExecutor(len(names)) as pool:
        records = list(pool.map(orchard.run, names))
    assert {record.revision for record in records} == {f"fruits@v{number}" for number in range(1, len(names) + 1)}
    assert {(str(one), one.digest) for one in registry.revisions()} == {(record.revision, record.digest) for record in records}


def test_a_skipped_job_hands_on_the_name_of_its_input(orchard: Orchard, registry: DataRegistry) -> None:
    orchard.plant("grow-apple", dataset="apples")
    skip = "return Outcome(skipped='sweet enough', passes_on='apple')"
    orchard.plant("cook-jam", inputs=("apple",), dataset="jam", body=skip)
    apple = orchard.run("grow-apple")
    jam = orchard.run("cook-jam", {"apple": apple})
    assert (jam.digest, jam.revision) == (apple.digest, "apples@v1")
    assert [str(one) for one in registry.revisions()] == ["apples@v1"]


def test_a_person_who_says_who_they_are_is_the_author(orchard: Orchard, registry: DataRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    orchard.plant("grow-apple", dataset="apples")
    monkeypatch.setitem(os.environ, "GIT_AUTHOR_NAME", "Ada Lovelace")
    monkeypatch.setitem(os.environ, "GIT_AUTHOR_EMAIL", "ada@example.com")
    orchard.run("grow-apple")
    assert registry.resolve("apples").author == "Ada Lovelace"
