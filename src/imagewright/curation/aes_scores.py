"""Scores every kept sample of a curated manifest with the aesthetic model, partition by partition; finished partitions are found again.

A partition's result is named by the model's digest and the samples' own, so a killed run, another machine or a grown manifest
redoes only what is missing.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from imagewright.data.buckets import Bucket
from imagewright.data.manifest import ManifestRow, read_manifest, table_to_rows
from imagewright.data.pixels import read_pixels
from imagewright.errors import InputError, Problem

SCORES_NAME = "scores.parquet"
RESULTS_FOLDER = "aes-scores"
UNREADABLE = "unreadable"
SCHEMA = pa.schema(
    [
        ("sample_key", pa.string()),
        ("score_aes", pa.float32()),
        ("aes_disagreement", pa.float32()),
        ("drop_reason", pa.string()),
        ("aes_digest", pa.string()),
        ("origin", pa.string()),
    ]
)


class ManifestScorer(Protocol):
    """The aesthetic model."""

    @property
    def origin(self) -> str:
        """What it was trained on: `simulated` or `human`."""

    def score_with_disagreement(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """RGB uint8 [n, H, W, 3] -> scores [n] in 0..100, and their spread over the ensemble [n]."""


class PartitionResults(Protocol):
    """Where finished partitions are kept."""

    def get(self, name: str) -> bytes | None:
        """Bytes under a name, or None."""

    def put(self, name: str, data: bytes) -> None:
        """Keeps bytes under a name that is free."""


def score_manifest(
    curated: Path,
    scorer: ManifestScorer,
    aes_digest: str,
    output: Path,
    results: PartitionResults,
    *,
    side_px: int,
    partition_samples: int,
) -> dict[str, int]:
    """Writes `scores.parquet` in manifest order and returns counts: num_in = num_kept + num_dropped, and num_found partitions.

    An unreadable sample has no score and a drop_reason. Raises InputError when the manifest keeps no sample.
    """
    rows = list(table_to_rows(read_manifest(curated, kept=True)))
    if not rows:
        raise InputError(Problem("curated", "must keep at least one sample", 0, "curate with milder filters"))
    counts = {"num_in": len(rows), "num_kept": 0, "num_dropped": 0, "num_partitions": 0, "num_found": 0}
    with pq.ParquetWriter(output / SCORES_NAME, SCHEMA) as writer:
        for start in range(0, len(rows), partition_samples):
            partition = rows[start : start + partition_samples]
            name = f"{RESULTS_FOLDER}/{partition_name(partition, aes_digest, side_px)}.parquet"
            found = results.get(name)
            table = read_partition(found, partition) if found is not None else None
            counts["num_found"] += table is not None
            if table is None:
                table = score_partition(curated, partition, scorer, aes_digest, side_px)
                if found is None:
                    results.put(name, to_bytes(table))
            writer.write_table(table)
            dropped = table.num_rows - table["score_aes"].drop_null().length()
            counts["num_dropped"] += dropped
            counts["num_kept"] += table.num_rows - dropped
            counts["num_partitions"] += 1
    return counts


def partition_name(rows: Sequence[ManifestRow], aes_digest: str, side_px: int) -> str:
    """Digest of everything that decides a partition's scores."""
    content = "\n".join([aes_digest, str(side_px), *(f"{row.sample_key} {row.sha256}" for row in rows)])
    return hashlib.sha256(content.encode()).hexdigest()


def score_partition(curated: Path, rows: Sequence[ManifestRow], scorer: ManifestScorer, aes_digest: str, side_px: int) -> pa.Table:
    """Scores of one partition, one row a sample."""
    found = list(read_pixels(curated, rows, Bucket(side_px, side_px), Counter()))
    by_key: dict[str, tuple[float, float]] = {}
    if found:
        scores, spread = scorer.score_with_disagreement(np.stack([image for _, image in found]))
        by_key = {row.sample_key: (float(scores[i]), float(spread[i])) for i, (row, _) in enumerate(found)}
    columns = {
        "sample_key": [row.sample_key for row in rows],
        "score_aes": [by_key.get(row.sample_key, (None, None))[0] for row in rows],
        "aes_disagreement": [by_key.get(row.sample_key, (None, None))[1] for row in rows],
        "drop_reason": ["" if row.sample_key in by_key else UNREADABLE for row in rows],
        "aes_digest": [aes_digest] * len(rows),
        "origin": [scorer.origin] * len(rows),
    }
    return pa.table(columns, schema=SCHEMA)


def read_partition(data: bytes, rows: Sequence[ManifestRow]) -> pa.Table | None:
    """A kept result; None when it is damaged or not about these samples, so that it is made again."""
    try:
        table = pq.read_table(io.BytesIO(data))
    except (OSError, pa.ArrowException):
        return None
    fits = table.schema.equals(SCHEMA) and table["sample_key"].to_pylist() == [row.sample_key for row in rows]
    return table if fits else None


def to_bytes(table: pa.Table) -> bytes:
    """Parquet bytes."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()
