"""Walks the partitions of a pool through a stage, keeping each result under its digest; a killed walk redoes only what is missing.

Memory is one partition per worker. Results live in a local folder and, when there is a store, in it under the same names, so that
work slices on other machines fill in for one another.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from imagewright.curation.stage import Partition, Stage, stage_digest
from imagewright.data.manifest import read_manifest
from imagewright.data.shards import SHARDS_FOLDER
from imagewright.errors import InputError, Problem

MAX_LOST_WORKERS = 3
"""Killed workers that a walk survives; the same partition may kill each anew."""

Task = tuple[Stage, Partition, Path]
"""Stage, partition, and where its result goes."""


class WorkerError(InputError):
    """Workers that are killed again and again."""


class ResultStore(Protocol):
    """Where results are shared between machines; `SharedResults` in jobs wires it to the store."""

    def get(self, name: str) -> bytes | None:
        """Bytes under a name, or None."""

    def put(self, name: str, data: bytes) -> None:
        """Keeps bytes under a name; the same name always holds the same bytes."""


@dataclass
class Walk:
    """Outcome of a stage over partitions."""

    results: list[Path] = field(default_factory=list)
    """One Parquet file per partition, in the order of the partitions."""
    num_computed: int = 0
    num_reused: int = 0


def list_partitions(pool: Path) -> list[Partition]:
    """One partition per shard of the manifest, in order."""
    table = read_manifest(pool).sort_by([("shard", "ascending"), ("offset", "ascending")])
    names = sorted({str(name) for name in pc.unique(table["shard"]).to_pylist()})
    folder = pool / SHARDS_FOLDER
    return [Partition(name, table.filter(pc.equal(table["shard"], pa.scalar(name))).combine_chunks(), folder) for name in names]


def shards_of_slice(pool: Path, index: int, num_slices: int) -> list[str]:
    """Paths inside the pool of the shards that a work slice reads; needs the manifest alone."""
    return [f"{SHARDS_FOLDER}/{partition.name}" for partition in list_partitions(pool)[index::num_slices]]


def walk(
    stage: Stage,
    partitions: Sequence[Partition],
    work: Path,
    shared: ResultStore | None = None,
    num_workers: int = 1,
    take: slice = slice(None),
) -> Walk:
    """Runs a stage over `partitions[take]`; finished results are reused. Results are listed for the taken partitions."""
    folder = work / stage.name
    folder.mkdir(parents=True, exist_ok=True)
    taken = list(partitions)[take]
    outcome = Walk([folder / f"{stage_digest(stage, partition)}.parquet" for partition in taken])
    missing = []
    for partition, path in zip(taken, outcome.results, strict=True):
        if path.exists() or fetch_shared(shared, stage, path):
            outcome.num_reused += 1
        else:
            missing.append((stage, partition, path))
    for path in run_all(missing, num_workers):
        outcome.num_computed += 1
        if shared is not None:
            shared.put(f"{stage.name}/{path.name}", path.read_bytes())
    return outcome


def fetch_shared(shared: ResultStore | None, stage: Stage, path: Path) -> bool:
    """Copies a result that another machine made; False when there is none."""
    data = shared.get(f"{stage.name}/{path.name}") if shared is not None else None
    if data is None:
        return False
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_bytes(data)
    partial.replace(path)
    return True


def run_all(tasks: Sequence[Task], num_workers: int) -> Iterator[Path]:
    """Runs tasks in this process or in `num_workers` fresh ones; yields each finished path.

    A worker that is killed costs the partitions that were in work, which fresh workers do again. Raises WorkerError when that happens
    more than MAX_LOST_WORKERS times.
    """
    if num_workers == 1 or len(tasks) < 2:
        for task in tasks:
            yield run_task(task)
        return
    waiting = {task[2]: task for task in tasks}
    for _ in range(MAX_LOST_WORKERS + 1):
        # spawn, not fork: model runtimes hold threads that a fork would freeze.
        with ProcessPoolExecutor(min(num_workers, len(waiting)), multiprocessing.get_context("spawn")) as pool:
            try:
                for future in as_completed([pool.submit(run_task, task) for task in waiting.values()]):
                    path = future.result()
                    del waiting[path]
                    yield path
            except BrokenProcessPool:
                pass
        # What was finished when the pool broke is there, though nobody said so.
        for path in [path for path in waiting if path.exists()]:
            del waiting[path]
            yield path
        if not waiting:
            return
    names = ", ".join(task[1].name for task in waiting.values())
    fix = "give each worker more memory, or lower curation.num_workers; finished partitions are kept"
    raise WorkerError(Problem("curation.num_workers", f"workers were killed {MAX_LOST_WORKERS + 1} times", names, fix))


def run_task(task: Task) -> Path:
    """Runs one stage on one partition and commits its result by a rename."""
    stage, partition, path = task
    columns = stage.run(partition)
    assert set(columns) == set(stage.outputs), f"{stage.name} declares {sorted(stage.outputs)} and wrote {sorted(columns)}"
    keys = partition.rows["sample_key"].combine_chunks()
    table = pa.table({"sample_key": keys, **{name: pa.array(columns[name], kind) for name, kind in stage.outputs.items()}})
    partial = path.with_suffix(f".{os.getpid()}.partial")
    pq.write_table(table, partial, compression="zstd")
    partial.replace(path)
    return path


def gather(results: Sequence[Path], columns: Sequence[str]) -> pa.Table:
    """Columns of a walk's results as one table, in the order of the partitions."""
    return pa.concat_tables([pq.read_table(path, columns=["sample_key", *columns]) for path in results])
