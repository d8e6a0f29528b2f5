"""Curated samples -> decoded pixels: the step between the manifest and everything that encodes or judges images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imagewright.data.buckets import Bucket, fit_to_bucket
from imagewright.data.images import BadImage, decode_rgb
from imagewright.data.manifest import ManifestRow, read_manifest, table_to_rows
from imagewright.data.shards import SHARDS_FOLDER, ShardError, ShardReader
from imagewright.errors import InputError, Problem


@dataclass
class PixelSet:
    """Decoded images [N, height, width, 3] uint8 with their rows; `dropped` counts the samples that could not be read, by reason."""

    images: NDArray[np.uint8]
    rows: list[ManifestRow]
    dropped: Counter[str] = field(default_factory=Counter)


def kept_rows(curated: Path, splits: Sequence[str]) -> list[ManifestRow]:
    """Rows of the given splits that curation kept, in manifest order."""
    return list(table_to_rows(read_manifest(curated, splits=splits, kept=True)))


def read_pixels(
    curated: Path, rows: Sequence[ManifestRow], size: Bucket, dropped: Counter[str]
) -> Iterator[tuple[ManifestRow, NDArray[np.uint8]]]:
    """Yields each row with its image [height, width, 3], resized and cropped to `size`; unreadable samples are counted and left out."""
    with ShardReader(curated / SHARDS_FOLDER) as reader:
        for row in rows:
            try:
                image = decode_rgb(reader.read(row.shard, row.offset, row.length, row.sha256))
            except BadImage as error:
                dropped[error.reason] += 1
            except ShardError as error:
                dropped[error.problems[0].rule] += 1
            else:
                yield row, fit_to_bucket(image, size)


def load_pixels(
    curated: Path, *, side_px: int, splits: Sequence[str], limit: int, seed: int, only_scenes: bool = False, source: str = ""
) -> PixelSet:
    """Decodes at most `limit` images, drawn at random for the seed, as squares of side_px.

    only_scenes keeps rows with a ground truth. Raises InputError when nothing is left.
    """
    rows = [row for row in kept_rows(curated, splits) if (row.scene or not only_scenes) and source in ("", row.source)]
    order = np.random.default_rng(seed).permutation(len(rows))[:limit]
    dropped: Counter[str] = Counter()
    found = list(read_pixels(curated, [rows[i] for i in order], Bucket(side_px, side_px), dropped))
    if not found:
        what = "scenes with a ground truth" if only_scenes else "images"
        raise InputError(
            Problem("curated", f"must hold readable {what} in the splits {', '.join(splits)}", dict(dropped), "curate more data")
        )
    return PixelSet(np.stack([image for _, image in found]), [row for row, _ in found], dropped)
