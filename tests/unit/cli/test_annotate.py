"""`imagewright annotate` as typed in a terminal: what the chart runs, and votes on their way into the data registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import typer
from fixtures.annotation import make_project
from typer.testing import CliRunner

from imagewright.annotation.store import AnnotationStore
from imagewright.cli.main import app
from imagewright.errors import InputError
from imagewright.registry import open_registry
from imagewright.storage import open_store


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A finished tournament of four images, judged by two annotators alike; a store with its registry beside it."""
    for name in ("IMAGEWRIGHT_REGISTRY_URL", "IMAGEWRIGHT_PIPELINE_RUN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IMAGEWRIGHT_STORE_URL", f"file://{tmp_path}/store")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Ada")
    monkeypatch.setenv("GIT_AUTHOR_EMAIL", "ada@example.com")
    url = f"sqlite:///{tmp_path / 'votes.db'}"
    votes = AnnotationStore(url)
    make_project(votes, items=4)
    for annotator in ("ann", "bob"):
        one = votes.assign("looks", annotator)
        while (question := (view := votes.view(one.id)).position.question) is not None:
            votes.vote(one.id, question.key, view.revision, max(question.images))
    return url


def annotate(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["annotate", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_page_is_served_on_the_address_and_port_that_the_chart_gives() -> None:
    command: Any = typer.main.get_command(app)
    serve = command.commands["annotate"].commands["serve"]
    parsed = serve.make_context("serve", ["--host=0.0.0.0", "--port=8080"]).params
    assert (parsed["host"], parsed["port"]) == ("0.0.0.0", 8080)  # noqa: S104 - only parsed


def test_votes_are_published_with_how_far_annotators_agree(database: str, tmp_path: Path) -> None:
    shown = annotate("export", "looks", str(tmp_path / "out"), "--commit", "looks-votes", "--database", database)
    assert shown.strip().endswith("looks-votes@v1")
    registry = open_registry(None, open_store(f"file://{tmp_path}/store"))
    revision = registry.resolve("looks-votes")
    assert "by 2 trusted annotators" in revision.message and "Origin: human" in revision.message
    assert "Agreement on shared comparisons: 100.0%" in revision.message
    registry.checkout("looks-votes", tmp_path / "back")
    for name in ("ratings", "pairs"):
        assert pq.read_table(tmp_path / "back" / f"{name}.parquet").equals(pq.read_table(tmp_path / "out" / f"{name}.parquet"))
    assert (tmp_path / "back" / "agreement.json").is_file()


def test_a_folder_with_other_files_is_not_published(database: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "private.txt").write_text("mine")
    with pytest.raises(InputError, match="must be empty or absent"):
        annotate("export", "looks", str(tmp_path / "out"), "--commit", "looks-votes", "--database", database)
