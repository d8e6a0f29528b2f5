"""`imagewright aes`: from exported votes to a report, in two commands."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from imagewright.cli.main import app
from imagewright.errors import InputError


def exported(folder: Path) -> tuple[Path, Path]:
    """Votes and images as a tournament leaves them."""
    votes, images = folder / "votes", folder / "images"
    votes.mkdir()
    images.mkdir()
    rows = [{"item": f"i{n}", "category": "c", "tier": n + 1, "score": 1.0, "annotator": "a", "origin": "human"} for n in range(6)]
    pq.write_table(pa.Table.from_pylist(rows), votes / "ratings.parquet")
    (votes / "agreement.json").write_text(json.dumps({"project": "p", "votes": 9, "pair_agreement": {"agreement": None}}))
    for n in range(6):
        noise = np.random.default_rng(n).integers(0, 20 + 40 * n, (24, 24, 3), dtype=np.uint8)
        cv2.imwrite(str(images / f"i{n}.png"), noise)
    return votes, images


def test_votes_become_a_benchmark_and_scorers_are_put_on_it(tmp_path: Path) -> None:
    votes, images = exported(tmp_path)
    run = CliRunner()
    built = run.invoke(app, ["aes", "build-benchmark", str(votes), "--images", str(images), "--output", str(tmp_path / "b")])
    assert built.exit_code == 0 and "6 images, origin human" in " ".join(built.output.split())
    assert json.loads((tmp_path / "b" / "benchmark.json").read_text())["agreement"] == {"votes": 9, "agreement": None}
    arguments = ["aes", "benchmark", str(tmp_path / "b"), "--scorer", "contrast", "--scorer", "sharpness", "--output", str(tmp_path / "r")]
    measured = run.invoke(app, arguments)
    assert measured.exit_code == 0, measured.output
    assert len(json.loads((tmp_path / "r" / "results.json").read_text())) == 2 and (tmp_path / "r" / "report.html").is_file()


def test_an_unknown_scorer_and_votes_without_ratings_are_named(tmp_path: Path) -> None:
    votes, images = exported(tmp_path)
    CliRunner().invoke(app, ["aes", "build-benchmark", str(votes), "--images", str(images), "--output", str(tmp_path / "b")])
    with pytest.raises(InputError, match="a model folder or a picture statistic"):
        CliRunner().invoke(app, ["aes", "benchmark", str(tmp_path / "b"), "--scorer", "nobody"], catch_exceptions=False)
    (votes / "ratings.parquet").unlink()
    with pytest.raises(InputError, match=r"must hold ratings\.parquet"):
        CliRunner().invoke(
            app, ["aes", "build-benchmark", str(votes), "--images", str(images), "--output", str(tmp_path / "c")], catch_exceptions=False
        )
