"""Curation end to end on a corrupted debug pool: nothing is lost, faults are found, holdouts stay apart, a killed walk resumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from imagewright.config.curation import CurationConfig, TaxonomyConfig
from imagewright.config.data import CorruptConfig, DataConfig, EmojiConfig, PostersConfig, ScenesConfig
from imagewright.curation.curate import Curated, curate, score
from imagewright.curation.partitions import list_partitions, walk
from imagewright.curation.stages import stages_of
from imagewright.curation.taxonomy import load_taxonomy
from imagewright.data.manifest import read_manifest, table_to_rows
from imagewright.data.shards import SHARDS_FOLDER, ShardReader
from imagewright.sources.ingest import ingest
from imagewright.sources.scene_spec import is_held_out, scene_from_json

POOL = DataConfig(
    scenes=ScenesConfig(num_samples=150, size_px=48),
    emoji=EmojiConfig(num_concepts=16, size_px=48, holdout_fraction=0.4),
    posters=PostersConfig(num_samples=10, size_px=96),
    corrupt=CorruptConfig(exact_duplicate=0.06, near_duplicate=0.06, blur=0.06, tiny=0.04, broken=0.06, bomb=0.03, wrong_caption=0.03),
    samples_per_shard=64,
)
SECTION = CurationConfig(taxonomy=TaxonomyConfig(num_categories=6, num_groups=2))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    ingest(POOL, folder, seed=0)
    return folder


@pytest.fixture(scope="module")
def curated(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Curated]:
    output, work = tmp_path_factory.mktemp("curated"), tmp_path_factory.mktemp("work")
    return output, curate(raw, output, SECTION, work, seed=0)


def test_kept_and_dropped_add_up_to_the_row(raw: Path, curated: tuple[Path, Curated]) -> None:
    folder, result = curated
    before, after = read_manifest(raw), read_manifest(folder)
    assert sorted(before["sample_key"].to_pylist()) == sorted(after["sample_key"].to_pylist())
    assert result.counts["num_kept"] + result.counts["num_dropped"] == result.counts["num_in"] == before.num_rows
    assert read_manifest(folder, kept=True).num_rows == result.counts["num_kept"]
    assert sum(result.funnel.reasons.values()) == result.counts["num_dropped"]


def test_certain_faults_are_found_and_clean_samples_are_not_called_broken(raw: Path, curated: tuple[Path, Curated]) -> None:
    faults = {row["sample_key"]: row for row in pq.read_table(raw / "faults.parquet").to_pylist()}
    reasons = {row.sample_key: row.drop_reason for row in table_to_rows(read_manifest(curated[0]))}
    unreadable = {"broken", "unknown_format", "empty", "too_many_pixels", "damaged"}
    assert {key for key, reason in reasons.items() if reason in unreadable} == {
        k for k, f in faults.items() if f["fault"] in ("broken", "bomb")
    }
    for key, fault in faults.items():
        if fault["fault"] == "tiny":
            assert reasons[key] == "too_small"
        if fault["fault"] == "exact_duplicate" and not reasons[fault["origin"]].startswith(("duplicate_near", "blur")):
            assert sorted([reasons[key], reasons[fault["origin"]]]) == ["", "duplicate_exact"]


def test_holdouts_stay_apart_from_training(curated: tuple[Path, Curated]) -> None:
    rows = list(table_to_rows(read_manifest(curated[0], kept=True)))
    assert not any(is_held_out(scene_from_json(row.scene)) for row in rows if row.scene and row.split in ("train", "validation"))
    concepts = {split: {row.concept for row in rows if row.split == split and row.category and row.source in ("openmoji", "noto")}
                for split in ("train", "holdout_concept")}  # fmt: skip
    assert concepts["holdout_concept"] and not concepts["train"] & concepts["holdout_concept"]
    digests = {split: {row.sha256 for row in rows if row.split == split} for split in ("train", "validation", "holdout_compositional")}
    assert not digests["train"] & (digests["validation"] | digests["holdout_compositional"])


def test_the_curated_folder_reads_by_itself(curated: tuple[Path, Curated]) -> None:
    folder, result = curated
    with ShardReader(folder / SHARDS_FOLDER) as reader:
        for row in table_to_rows(read_manifest(folder, kept=True)):
            assert len(reader.read(row.shard, row.offset, row.length, row.sha256)) == row.length
    assert result.report.read_text().startswith("<!doctype html>")
    assert "<script" not in result.report.read_text() and "http" not in result.report.read_text().replace("http-equiv", "")
    assert set(load_taxonomy(folder).names) >= {row.category for row in table_to_rows(read_manifest(folder, kept=True))}


def test_training_weights_are_an_epoch_and_other_splits_have_none(curated: tuple[Path, Curated]) -> None:
    table = read_manifest(curated[0], kept=True)
    weights, splits = table["sampling_weight"].to_numpy(), np.array(table["split"].to_pylist())
    assert weights[splits == "train"].sum() == pytest.approx((splits == "train").sum(), rel=0.01)
    assert not weights[splits != "train"].any()


def test_a_killed_walk_redoes_only_what_is_missing(raw: Path, tmp_path: Path) -> None:
    (stage,) = stages_of(SECTION)
    partitions = list_partitions(raw)
    first = walk(stage, partitions, tmp_path)
    assert (first.num_computed, first.num_reused) == (len(partitions), 0)
    first.results[1].rename(first.results[1].with_suffix(".partial"))
    again = walk(stage, partitions, tmp_path)
    assert (again.num_computed, again.num_reused) == (1, len(partitions) - 1)
    assert score(raw, SECTION, tmp_path, slice_index=0)["num_reused"] == len(partitions)


def test_a_shard_cut_in_the_middle_is_counted_and_stops_nothing(raw: Path, tmp_path: Path) -> None:
    for name in ("pool", "out", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "pool" / SHARDS_FOLDER).mkdir()
    for path in raw.rglob("*.*"):
        (tmp_path / "pool" / path.relative_to(raw)).write_bytes(path.read_bytes())
    shard = sorted((tmp_path / "pool" / SHARDS_FOLDER).glob("*.tar"))[0]
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    result = curate(tmp_path / "pool", tmp_path / "out", SECTION, tmp_path / "work", seed=0)
    assert 20 < result.counts["num_dropped_damaged"] < 64
    assert result.counts["num_kept"] + result.counts["num_dropped"] == result.counts["num_in"]


def test_what_an_earlier_revision_kept_is_not_kept_again_under_another_key(
    raw: Path, curated: tuple[Path, Curated], tmp_path: Path
) -> None:
    for name in ("pool", "out", "work"):
        (tmp_path / name).mkdir()
    ingest(POOL.model_copy(update={"scenes": ScenesConfig(num_samples=0), "corrupt": CorruptConfig()}), tmp_path / "pool", seed=1)
    result = curate(tmp_path / "pool", tmp_path / "out", SECTION, tmp_path / "work", seed=0, earlier=curated[0])
    rows = {row.sample_key: row for row in table_to_rows(read_manifest(tmp_path / "out"))}
    assert all(row.drop_reason == "" for row in rows.values() if row.source == "openmoji"), "the same key again is the same sample"
    assert result.counts["num_in"] == len(rows)
