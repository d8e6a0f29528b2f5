"""From curated images to a scorer: what the payload holds and what it says about itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fixtures.curated_scenes import write_curated

from imagewright.config.aes import AesConfig
from imagewright.config.training import TrainingConfig
from imagewright.methods.aesthetic_run import AestheticRun, train_aesthetic
from imagewright.models.aesthetic import load_scorer
from imagewright.tracking.job_run import NullRun

TINY = AesConfig(channels=(4, 8), members=1, train_images=48, test_images=16, tournament_images=16, steps=6, pairs_per_step=4)
TRAINING = TrainingConfig(checkpoint_every_steps=3, validate_every_steps=0)


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_curated(tmp_path_factory.mktemp("curated"), 100)


@pytest.fixture(scope="module")
def payload(curated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("payload")
    outcome = train_aesthetic(AestheticRun(TINY, TRAINING, curated, "0" * 64, folder / "work"), make(folder / "out"), NullRun())
    assert outcome.counts["num_in"] == outcome.counts["num_kept"] + outcome.counts["num_dropped"] == 48
    assert outcome.report == folder / "out" / "report.html"
    return folder / "out"


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_everything_derived_from_simulated_votes_says_so(payload: Path) -> None:
    assert json.loads((payload / "metrics.json").read_text())["origin"] == "simulated"
    assert json.loads((payload / "aes" / "config.json").read_text())["origin"] == "simulated"
    assert "simulated" in (payload / "aes" / "README.md").read_text()
    assert "simulated" in (payload / "report.html").read_text()
    for name in ("ratings", "pairs"):
        assert set(pq.read_table(payload / "annotations" / f"{name}.parquet")["origin"].to_pylist()) == {"simulated"}


def test_one_annotator_judges_a_whole_tournament(payload: Path) -> None:
    ratings = pq.read_table(payload / "annotations" / "ratings.parquet").to_pylist()
    annotator = {row["sample_key"]: row["annotator"] for row in ratings}
    assert len(set(annotator.values())) == 3
    for pair in pq.read_table(payload / "annotations" / "pairs.parquet").to_pylist():
        assert annotator[pair["winner"]] == annotator[pair["loser"]] == pair["annotator"]


def test_figures_have_intervals_and_a_baseline_beside_them(payload: Path) -> None:
    test = json.loads((payload / "metrics.json").read_text())["test"]
    assert set(test) == {"seen", "unseen"}
    for part in test.values():
        assert part["model"]["srcc"]["low"] <= part["model"]["srcc"]["value"] <= part["model"]["srcc"]["high"]
        assert {"srcc", "plcc"} <= set(part["baseline"])


def test_payload_loads_as_a_scorer(payload: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    assert load_scorer(payload).score(images).shape == (3,)


def test_run_that_was_cut_short_ends_with_the_same_model(curated: Path, payload: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    settings = AestheticRun(TINY, TRAINING, curated, "0" * 64, tmp_path / "work")
    train_aesthetic(settings, make(tmp_path / "first"), NullRun())
    newest = max((tmp_path / "work" / "checkpoints").glob("*6*"))
    for path in sorted(newest.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    newest.rmdir()
    train_aesthetic(settings, make(tmp_path / "second"), NullRun())
    assert np.array_equal(load_scorer(tmp_path / "second").score(images), load_scorer(payload).score(images))
