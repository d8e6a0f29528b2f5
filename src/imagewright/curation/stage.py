"""A curation stage: reads one partition of the pool, writes columns, decides nothing.

The result of (stage, partition) is a Parquet file named by a digest of everything it depends on, so a killed worker redoes only
the partition it was in, and any machine can fill in the rest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from imagewright.data.images import BadImage, DecodeLimits, decode_rgb
from imagewright.data.shards import ShardError, ShardReader


@dataclass(frozen=True)
class Resources:
    """What one worker of a stage needs."""

    cpus: float = 1.0
    memory_mib: int = 1024
    gpus: int = 0


@dataclass(frozen=True)
class Partition:
    """One shard's rows of the manifest and a reader of its bytes."""

    name: str
    rows: pa.Table
    shards_folder: Path

    def digest(self) -> str:
        """SHA-256 over the keys, bytes and source columns of the rows: equal rows give equal results."""
        seen = hashlib.sha256()
        for name in ("sample_key", "sha256", "source", "split", "visible_text"):
            seen.update("\0".join(map(str, self.rows[name].to_pylist())).encode())
            seen.update(b"\n")
        return seen.hexdigest()

    @cached_property
    def locations(self) -> list[tuple[str, int, int, str]]:
        """Shard, offset, length and SHA-256 of every row."""
        return list(zip(*(self.rows[name].to_pylist() for name in ("shard", "offset", "length", "sha256")), strict=True))

    def read(self, reader: ShardReader, index: int) -> bytes:
        """Image bytes of row `index`. Raises BadImage(damaged) when the shard no longer holds them."""
        try:
            return reader.read(*self.locations[index])
        except ShardError as error:
            raise BadImage("damaged", error.problems[0].rule) from error

    def images(self, reader: ShardReader) -> Iterator[bytes | BadImage]:
        """Image bytes of every row, in order; the reason in the place of those that cannot be read."""
        for index in range(self.rows.num_rows):
            try:
                data = self.read(reader, index)
            except BadImage as error:
                yield error
            else:
                yield data

    def pictures(self, reader: ShardReader, limits: DecodeLimits) -> Iterator[np.ndarray | None]:
        """Pixels RGB [H, W, 3] uint8 of every row, in order; None where the image cannot be read."""
        for data in self.images(reader):
            try:
                yield None if isinstance(data, BadImage) else decode_rgb(data, limits)
            except BadImage:
                yield None


class Stage(Protocol):
    """One scorer. Implementations are small frozen dataclasses; their fields are settings and part of the result's digest."""

    @property
    def name(self) -> str:
        """Folder of the results."""

    @property
    def version(self) -> int:
        """Raised when the same settings give other numbers."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Manifest columns read, beside the image bytes."""

    @property
    def outputs(self) -> Mapping[str, pa.DataType]:
        """Columns written."""

    @property
    def resources(self) -> Resources:
        """Needs of one worker."""

    def run(self, partition: Partition) -> dict[str, list[Any]]:
        """One list per output column, one entry per row of the partition, in order. Never raises for a bad sample."""


def stage_digest(stage: Stage, partition: Partition) -> str:
    """Name of the result of a stage on a partition."""
    settings = {name: repr(value) for name, value in sorted(vars(stage).items())}
    content = [stage.name, stage.version, settings, {name: str(kind) for name, kind in stage.outputs.items()}, partition.digest()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
