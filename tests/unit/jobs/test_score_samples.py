"""Scoring in slices: machines fill in for one another, and the whole pool is scored when every slice has run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from imagewright.config import Config
from imagewright.config.curation import CurationConfig
from imagewright.config.data import DataConfig, ScenesConfig
from imagewright.curation.curate import score
from imagewright.jobs.frame import run_job
from imagewright.jobs.score_samples import JOB
from imagewright.sources.ingest import ingest
from imagewright.storage import PayloadMissing, open_store
from imagewright.storage.records import Record
from imagewright.storage.tree import blob_key


@dataclass
class Shelf:
    """Results shared between machines."""

    kept: dict[str, bytes] = field(default_factory=dict)

    def get(self, name: str) -> bytes | None:
        return self.kept.get(name)

    def put(self, name: str, data: bytes) -> None:
        self.kept[name] = data


def test_every_slice_scores_its_partitions_and_the_next_machine_finds_them(tmp_path: Path) -> None:
    ingest(DataConfig(scenes=ScenesConfig(num_samples=30), samples_per_shard=8), tmp_path / "raw", seed=0)
    section, shelf = CurationConfig(num_slices=2), Shelf()
    computed = [score(tmp_path / "raw", section, tmp_path / f"machine{i}", shelf, slice_index=i)["num_computed"] for i in (0, 1)]
    assert computed == [2, 2]
    assert score(tmp_path / "raw", section, tmp_path / "third", shelf) == {"num_computed": 0, "num_reused": 4}


def test_a_slice_downloads_its_own_shards_alone(tmp_path: Path) -> None:
    ingest(DataConfig(scenes=ScenesConfig(num_samples=30), samples_per_shard=8), tmp_path / "raw", seed=0)
    store = open_store(f"file://{tmp_path}/store")
    raw = Record(job="ingest-raw", kind="dataset", digest=store.put_folder(tmp_path / "raw", dvc_layout=True))
    others = [entry for entry in store.tree(raw.digest) if entry.path in ("shards/shard-00001.tar", "shards/shard-00003.tar")]
    assert len(others) == 2
    for entry in others:
        store.backend.delete(blob_key(entry.sha256, entry.md5))
    environ = {"IMAGEWRIGHT_STORE_URL": store.url, "IMAGEWRIGHT_WORK": str(tmp_path / "work")}

    def run_slice(index: int) -> dict[str, int]:
        config = Config(curation=CurationConfig(num_slices=2, slice_index=index), threads=1)
        return dict(run_job("score-samples", config, {"raw": raw}, tmp_path / "record.json", environ).record.counts)

    assert run_slice(0) == {"num_computed": 2, "num_reused": 0}
    assert run_slice(0) == {"num_computed": 0, "num_reused": 2}
    with pytest.raises(PayloadMissing):
        run_slice(1)


def test_a_slice_that_does_not_exist_is_refused() -> None:
    assert JOB.kind == "none" and not JOB.keyed
    assert CurationConfig(num_slices=2, slice_index=1).slice_index == 1
    with pytest.raises(ValueError, match="below num_slices"):
        CurationConfig(num_slices=2, slice_index=2)
