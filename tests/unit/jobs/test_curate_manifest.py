"""Curation weighs by the promoted aesthetic model, notices when another one is promoted, and says which it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fixtures.promoted_scorer import promote_scorer

from imagewright.config import Config
from imagewright.config.curation import CurationConfig, SamplingConfig, TaxonomyConfig
from imagewright.config.data import DataConfig, ScenesConfig
from imagewright.data.buckets import Bucket, fit_to_bucket
from imagewright.data.images import decode_rgb
from imagewright.data.manifest import read_manifest
from imagewright.data.shards import SHARDS_FOLDER, ShardReader
from imagewright.jobs.curate_manifest import JOB
from imagewright.jobs.frame import JobResult, run_job
from imagewright.models.aesthetic import load_scorer
from imagewright.sources.ingest import ingest
from imagewright.storage import open_store
from imagewright.storage.records import Record
from imagewright.tracking.promotion_log import champion_record


class Bench:
    """A store with a raw pool of scenes in it, and the job on that pool."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, open_store(f"file://{folder}/store")
        ingest(DataConfig(scenes=ScenesConfig(num_samples=40), samples_per_shard=16), folder / "raw", seed=0)
        self.raw = Record(job="ingest-raw", kind="dataset", digest=self.store.put_folder(folder / "raw", dvc_layout=True))

    def curate(self) -> JobResult:
        section = CurationConfig(taxonomy=TaxonomyConfig(num_categories=2, num_groups=1))
        environ = {"IMAGEWRIGHT_STORE_URL": f"file://{self.folder}/store", "IMAGEWRIGHT_WORK": str(self.folder / "work")}
        return run_job("curate-manifest", Config(threads=1, curation=section), {"raw": self.raw}, self.folder / "out.json", environ)

    def payload(self, record: Record) -> Path:
        folder = self.folder / record.digest
        if not folder.exists():
            self.store.get(record.digest, folder)
        return folder


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_without_a_champion_the_mix_is_weighed_by_the_statistic_and_the_card_says_so(bench: Bench) -> None:
    assert champion_record(bench.store, "aes") is None
    record = bench.curate().record
    assert set(record.inputs) == {"raw"}
    folder = bench.payload(record)
    assert "score_aes" not in read_manifest(folder).column_names
    assert "not human judgement. The sampling mix is weighed by it." in (folder / "README.md").read_text()


def test_a_promoted_model_weighs_the_mix_and_is_part_of_key_record_and_card(bench: Bench, tmp_path: Path) -> None:
    before = bench.curate()
    digest = promote_scorer(bench.store, tmp_path / "first", 1, seed=0)
    after = bench.curate()
    assert not after.cached and after.record.action_key != before.record.action_key
    assert after.record.inputs["aes"] == digest
    folder = bench.payload(after.record)
    card = (folder / "README.md").read_text()
    assert f"the aesthetic model aes@1 (`{digest}`), trained on simulated ratings" in card
    table = read_manifest(folder, kept=True, splits=("train",)).to_pylist()
    own = table[0]
    with ShardReader(folder / SHARDS_FOLDER) as reader:
        image = fit_to_bucket(decode_rgb(reader.read(own["shard"], own["offset"], own["length"], own["sha256"])), Bucket(16, 16))
    assert own["score_aes"] == pytest.approx(float(load_scorer(tmp_path / "first").score(image[None])[0]), abs=1e-3)
    for category in {row["category"] for row in table}:
        rows = [row for row in table if row["category"] == category]
        order = np.argsort([row["score_aes"] for row in rows])
        assert np.all(np.diff([rows[i]["sampling_weight"] for i in order]) >= -1e-6)


def test_the_same_champion_is_found_again_and_another_one_is_not(bench: Bench, tmp_path: Path) -> None:
    promote_scorer(bench.store, tmp_path / "first", 1, seed=0)
    bench.curate()
    assert bench.curate().cached
    second = promote_scorer(bench.store, tmp_path / "second", 2, seed=1)
    again = bench.curate()
    assert not again.cached and again.record.inputs["aes"] == second


def test_a_recipe_can_ask_for_the_statistic_whoever_is_champion(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store")
    digest = promote_scorer(store, tmp_path / "first", 1, seed=0)
    assert JOB.implied is not None
    assert JOB.implied(Config(), store)["aes"].digest == digest
    asked = Config(curation=CurationConfig(sampling=SamplingConfig(look="statistic")))
    assert JOB.implied(asked, store) == {}
