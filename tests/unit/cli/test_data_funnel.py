"""`imagewright data funnel` as typed in a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from imagewright.cli.data import app
from imagewright.errors import InputError
from imagewright.storage import open_store
from imagewright.storage.records import Record, write_record

FUNNEL = {
    "num_in": 10,
    "num_kept": 7,
    "steps": [{"stage": "probe", "num_in": 10, "num_out": 7, "reasons": {"broken": 2, "too_small": 1}}],
    "sampling": [{"category": "red/circle", "num_samples": 7, "natural": 1.0, "target": 1.0, "realised": 1.0}],
}


@pytest.fixture
def curated(tmp_path: Path) -> Path:
    folder = tmp_path / "curated"
    folder.mkdir()
    (folder / "funnel.json").write_text(json.dumps(FUNNEL))
    (folder / "funnel.html").write_text("<!doctype html>")
    return folder


def show(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["funnel", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_curated_folder_shows_its_funnel_and_page(curated: Path, tmp_path: Path) -> None:
    shown = show(str(curated), "--page", str(tmp_path / "page.html"))
    assert "broken 2, too_small 1" in shown and "7 of 10 samples are kept" in shown and "red/circle" in shown
    assert (tmp_path / "page.html").read_text() == "<!doctype html>"


def test_a_record_is_followed_into_the_store(curated: Path, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/store"
    digest = open_store(url).put_folder(curated)
    write_record(Record(job="curate-manifest", kind="dataset", digest=digest), tmp_path / "record.json")
    assert "7 of 10" in show(str(tmp_path / "record.json"), "--store", url)


def test_a_folder_without_a_funnel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no funnel\.json"):
        show(str(tmp_path))
