"""Walking partitions: a worker killed in the middle of one costs that partition's work and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from imagewright.config.data import DataConfig, ScenesConfig
from imagewright.curation import partitions as module
from imagewright.curation.measure import MeasureStage
from imagewright.curation.partitions import WorkerError, gather, list_partitions, walk
from imagewright.curation.stage import Partition, Resources
from imagewright.sources.ingest import ingest

STUCK_WORKER = """
import sys, time
from pathlib import Path
from imagewright.curation.measure import MeasureStage
from imagewright.curation.partitions import list_partitions, walk

class Stuck(MeasureStage):
    def run(self, partition):
        columns = super().run(partition)
        if partition.name == "shard-00001.tar":
            Path(sys.argv[3]).touch()
            time.sleep(600)
        return columns

walk(Stuck(), list_partitions(Path(sys.argv[1])), Path(sys.argv[2]))
"""


@dataclass(frozen=True)
class Deadly:
    """Counts rows; its process is killed while it works on the second partition, as often as there are lives to take."""

    lives: Path = field(repr=False)
    num_lives: int

    name: ClassVar[str] = "deadly"
    version: ClassVar[int] = 1
    inputs: ClassVar[tuple[str, ...]] = ()
    resources: ClassVar[Resources] = Resources()
    outputs: ClassVar[Mapping[str, pa.DataType]] = {"place": pa.int64()}

    def run(self, partition: Partition) -> dict[str, list[Any]]:
        taken = len(list(self.lives.iterdir()))
        if partition.name == "shard-00001.tar" and taken < self.num_lives:
            (self.lives / str(taken)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"place": list(range(partition.rows.num_rows))}


@pytest.fixture(scope="module")
def partitions(tmp_path_factory: pytest.TempPathFactory) -> list[Partition]:
    pool = tmp_path_factory.mktemp("raw")
    ingest(DataConfig(scenes=ScenesConfig(num_samples=24), samples_per_shard=8), pool, seed=0)
    return list_partitions(pool)


def test_a_process_killed_in_the_middle_of_a_partition_redoes_that_partition(partitions: list[Partition], tmp_path: Path) -> None:
    pool, work, marker = partitions[0].shards_folder.parent, tmp_path / "work", tmp_path / "marker"
    process = subprocess.Popen([sys.executable, "-c", STUCK_WORKER, str(pool), str(work), str(marker)])
    try:
        while not marker.exists():
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    again = walk(MeasureStage(), partitions, work)
    assert (again.num_computed, again.num_reused) == (2, 1)
    untouched = walk(MeasureStage(), partitions, tmp_path / "other")
    assert gather(again.results, ["phash", "embedding"]).equals(gather(untouched.results, ["phash", "embedding"]))
    assert not list(work.rglob("*.partial"))


def test_a_killed_worker_does_not_stop_the_walk(partitions: list[Partition], tmp_path: Path) -> None:
    (tmp_path / "lives").mkdir()
    found = walk(Deadly(tmp_path / "lives", 1), partitions, tmp_path, num_workers=2)
    assert found.num_computed == 3
    assert gather(found.results, ["place"])["place"].to_pylist() == [*range(8)] * 3


def test_workers_that_are_killed_again_and_again_end_the_walk_with_the_partition_named(
    partitions: list[Partition], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lives").mkdir()
    monkeypatch.setattr(module, "MAX_LOST_WORKERS", 0)
    with pytest.raises(WorkerError, match=r"shard-00001\.tar"):
        walk(Deadly(tmp_path / "lives", 1), partitions[:2], tmp_path, num_workers=2)
