"""What `imagewright compare` finds between runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_case import grid_png, results
from typer.testing import CliRunner

from imagewright.cli.main import app
from imagewright.errors import InputError
from imagewright.evaluation.comparison import compare_runs, load_run
from imagewright.evaluation.results import Results, write_results
from imagewright.storage import Store, open_store
from imagewright.storage.records import Record


def put_run(store: Store, folder: Path, name: str, evaluated: Results, steps: int, digit: str) -> None:
    """Stores a run of two jobs as the job frame does."""
    folder.mkdir()
    write_results(evaluated, folder)
    (folder / "grid.png").write_bytes(grid_png())
    metrics = {"eval/geneval/overall": evaluated.models[-1].per_prompt["scene-0"]}
    jobs = (
        Record(job="evaluate-models", kind="results", digest=store.put_folder(folder), metrics=metrics),
        Record(job="encode-latents", kind="dataset", digest=digit * 64, config={"latents": {"max_captions": steps}, "threads": 1}),
    )
    for record in jobs:
        store.put_named(f"runs/{name}/{record.job}.json", record.model_dump_json().encode())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = open_store((tmp_path / "store").as_uri())
    first = results()
    better = [row.model_copy(update={"per_prompt": dict.fromkeys(row.per_prompt, 1.0)}) for row in first.models]
    put_run(opened, tmp_path / "one", "one", first, 2, "1")
    put_run(opened, tmp_path / "two", "two", first.model_copy(update={"models": better}), 5, "2")
    return opened


def test_only_what_differs_is_listed_and_scores_are_paired(store: Store) -> None:
    found = compare_runs([load_run(store, "one"), load_run(store, "two")])
    assert found.settings == {"latents.max_captions": (2, 5)}
    assert found.data == {"encode-latents": ("1" * 12, "2" * 12)}
    assert found.metrics["evaluate-models: eval/geneval/overall"] == (0.7, 1.0)
    assert found.paired["two base"].win_rate == 1.0
    assert found.paired["two base"].difference.low > 0
    assert load_run(store, "one").grid_png.startswith(b"\x89PNG")


def test_terminal_shows_tables_and_json(store: Store, tmp_path: Path) -> None:
    url = (tmp_path / "store").as_uri()
    shown = CliRunner().invoke(app, ["compare", "one", "two", "--store", url])
    assert shown.exit_code == 0, shown.output
    assert "latents.max_captions" in shown.output
    tree = json.loads(CliRunner().invoke(app, ["compare", "one", "two", "--json", "--store", url]).output)
    assert tree["runs"] == ["one", "two"]


def test_unknown_run_is_refused(store: Store) -> None:
    with pytest.raises(InputError, match="no records in the store"):
        load_run(store, "three")


def test_run_compared_with_itself_is_refused(store: Store, tmp_path: Path) -> None:
    asked = CliRunner().invoke(app, ["compare", "one", "one", "--store", (tmp_path / "store").as_uri()])
    assert isinstance(asked.exception, InputError)


def test_page_is_written_where_it_was_asked_for(store: Store, tmp_path: Path) -> None:
    url = (tmp_path / "store").as_uri()
    asked = CliRunner().invoke(app, ["compare", "one", "two", "--store", url, "--html", str(tmp_path / "pages" / "both.html")])
    assert asked.exit_code == 0, asked.output
    assert "<h2>Is the difference real?</h2>" in (tmp_path / "pages" / "both.html").read_text(encoding="utf-8")
    refused = CliRunner().invoke(app, ["compare", "one", "two", "--store", url, "--html", str(tmp_path)])
    assert isinstance(refused.exception, InputError)
