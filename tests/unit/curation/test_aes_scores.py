"""Scoring a manifest: every kept sample once, in order, and nothing scored twice by the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fixtures.curated_scenes import write_curated
from numpy.typing import NDArray

from imagewright.curation.aes_scores import score_manifest
from imagewright.curation.shared_results import StoreResults
from imagewright.data.manifest import read_manifest
from imagewright.storage import open_store

OLD, NEW = "a" * 64, "b" * 64


class Counting:
    """Scores by brightness, counts what it saw, and dies after so many images."""

    origin = "simulated"

    def __init__(self, dies_after: int = 10_000) -> None:
        self.num_seen, self.dies_after = 0, dies_after

    def score_with_disagreement(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        self.num_seen += len(images)
        if self.num_seen > self.dies_after:
            raise KeyboardInterrupt
        return images.mean(axis=(1, 2, 3)).astype(np.float64), np.zeros(len(images))


@pytest.fixture
def curated(tmp_path: Path) -> Path:
    return write_curated(tmp_path / "curated", 50)


def score(curated: Path, folder: Path, scorer: Counting, digest: str = OLD) -> dict[str, int]:
    output = folder / "out"
    output.mkdir(exist_ok=True)
    store = open_store(f"file://{folder}/store")
    return score_manifest(curated, scorer, digest, output, StoreResults(store), side_px=16, partition_samples=20)


def test_every_kept_sample_has_one_row_in_manifest_order(curated: Path, tmp_path: Path) -> None:
    counts = score(curated, tmp_path, Counting())
    assert counts == {"num_in": 50, "num_kept": 50, "num_dropped": 0, "num_partitions": 3, "num_found": 0}
    table = pq.read_table(tmp_path / "out" / "scores.parquet")
    assert table["sample_key"].to_pylist() == read_manifest(curated, kept=True)["sample_key"].to_pylist()
    assert set(table["origin"].to_pylist()) == {"simulated"} and set(table["aes_digest"].to_pylist()) == {OLD}


def test_a_killed_run_goes_on_where_it_stopped(curated: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        score(curated, tmp_path, Counting(dies_after=40))
    rest = Counting()
    assert score(curated, tmp_path, rest)["num_found"] == 2 and rest.num_seen == 10
    first = (tmp_path / "out" / "scores.parquet").read_bytes()
    again = Counting()
    assert score(curated, tmp_path, again)["num_found"] == 3 and again.num_seen == 0
    assert (tmp_path / "out" / "scores.parquet").read_bytes() == first


def test_other_weights_score_everything_anew(curated: Path, tmp_path: Path) -> None:
    score(curated, tmp_path, Counting())
    other = Counting()
    assert score(curated, tmp_path, other, NEW)["num_found"] == 0 and other.num_seen == 50


def test_a_damaged_result_is_made_again(curated: Path, tmp_path: Path) -> None:
    score(curated, tmp_path, Counting())
    for path in (tmp_path / "store").rglob("*.parquet"):
        path.write_bytes(b"damaged")
    again = Counting()
    counts = score(curated, tmp_path, again)
    assert counts["num_found"] == 0 and counts["num_kept"] == again.num_seen == 50


def test_unreadable_samples_are_counted_and_have_a_reason(curated: Path, tmp_path: Path) -> None:
    shard = sorted((curated / "shards").glob("*.tar"))[-1]
    shard.write_bytes(b"\0" * shard.stat().st_size)
    counts = score(curated, tmp_path, Counting())
    assert 0 < counts["num_dropped"] < 50 and counts["num_kept"] + counts["num_dropped"] == counts["num_in"]
    rows = pq.read_table(tmp_path / "out" / "scores.parquet").to_pylist()
    assert all((row["score_aes"] is None) == (row["drop_reason"] == "unreadable") for row in rows)
