"""`imagewright data` as typed in a terminal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from imagewright.cli.data import app
from imagewright.errors import InputError


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store, the default registry beside it, and a git identity."""
    for name in ("IMAGEWRIGHT_REGISTRY_URL", "IMAGEWRIGHT_PIPELINE_RUN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IMAGEWRIGHT_STORE_URL", f"file://{tmp_path}/store")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Ada")
    monkeypatch.setenv("GIT_AUTHOR_EMAIL", "ada@example.com")
    monkeypatch.setenv("COLUMNS", "200")


def data(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def commit_manifest(folder: Path, **columns: list[object]) -> str:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), folder / "manifest.parquet")
    return data("commit", "curated", str(folder), "--message", "A manifest").strip()


def test_commit_log_resolve_checkout(tmp_path: Path) -> None:
    (tmp_path / "payload").mkdir()
    (tmp_path / "payload/a.txt").write_text("one")
    assert data("commit", "raw", str(tmp_path / "payload"), "-m", "First samples") == "raw@v1\n"
    name, digest, _, commit = data("resolve", "raw").split()
    assert (name, len(digest), len(commit)) == ("raw@v1", 64, 40)
    shown = data("log", "raw")
    assert "raw@v1" in shown and "First samples" in shown and digest[:12] in shown
    assert json.loads(data("log", "--json"))[0]["digest"] == json.loads(data("resolve", "raw@v1", "--json"))["digest"] == digest
    assert data("checkout", "raw@v1", str(tmp_path / "out")).startswith("raw@v1: 1 files, 3 bytes in ")
    assert (tmp_path / "out/a.txt").read_text() == "one"


def test_diff_shows_rows_and_distributions(tmp_path: Path) -> None:
    commit_manifest(tmp_path / "payload", sample_key=["a", "b"], category=["animal", "food"], score_aesthetic=[0.5, 0.25])
    commit_manifest(tmp_path / "payload", sample_key=["b", "c"], category=["animal", "[red]animal"], score_aesthetic=[0.5, 0.75])
    shown = data("diff", "curated@v1", "curated")
    assert "rows 2 -> 2: 1 added, 1 removed, 1 changed, 0 only moved between shards" in shown
    assert "changed columns: category (1), score_aesthetic (1)" in shown
    assert "food 50.0% -> 0.0%" in shown
    assert "0.375 -> 0.625" in shown
    assert "[red]animal 0.0% -> 50.0%" in shown
    assert json.loads(data("diff", "curated@v1", "curated", "--json"))["rows"]["num_changed"] == 1


def test_diff_of_plain_files_shows_their_names(tmp_path: Path) -> None:
    (tmp_path / "payload").mkdir()
    for version in range(2):
        (tmp_path / f"payload/file{version}").write_text("x")
        data("commit", "raw", str(tmp_path / "payload"), "-m", "More")
    shown = data("diff", "raw@v1", "raw@v2")
    assert "files: 1 added, 0 removed, 0 changed, 1 the same" in shown
    assert "  + file1" in shown
    assert "the same payload" in data("diff", "raw", "raw@latest")


def test_remove_takes_samples_out(tmp_path: Path) -> None:
    commit_manifest(tmp_path / "payload", sample_key=["a", "b", "c"])
    assert data("remove", "curated", "a", "c", "-m", "Asked for by their owner") == "curated@v2\n"
    data("checkout", "curated", str(tmp_path / "out"))
    assert pq.read_table(tmp_path / "out/manifest.parquet").to_pylist() == [{"sample_key": "b"}]


def test_a_mistake_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the registry is empty"):
        data("resolve", "raw")
    with pytest.raises(InputError, match=r"registry\.url: must be the path of a git repository"):
        data("log", "--registry", str(tmp_path / "missing"))


def test_the_verb_starts_without_heavy_imports() -> None:
    heavy = "{'duckdb', 'pyarrow', 'dvc', 'boto3', 'torch'}"
    code = f"import sys, imagewright.cli.data, imagewright.registry; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"
