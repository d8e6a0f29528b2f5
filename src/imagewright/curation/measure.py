"""Stage measure: probe (header first), quality, perceptual hash and picture statistics of every sample in one decode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from imagewright.curation.aesthetics import aesthetic_statistic
from imagewright.curation.embedding import colour_gradient_embedding
from imagewright.curation.perceptual_hash import phash, thumbnail
from imagewright.curation.quality import (
    blocking,
    blur_effect,
    border_share,
    busiest_channel,
    entropy,
    grey_of,
    jpeg_quality,
    shrink,
    text_coverage,
)
from imagewright.curation.stage import Partition, Resources
from imagewright.data.images import DEFAULT_LIMITS, BadImage, DecodeLimits, decode_rgb, open_image
from imagewright.data.shards import ShardReader

MEASURE_SIDE_PX = 256
"""Quality is measured on at most this side: cheaper, and comparable between sizes."""


@dataclass(frozen=True)
class MeasureStage:
    """Reads every sample once: what its header says, whether it decodes, and what its pixels measure."""

    limits: DecodeLimits = DEFAULT_LIMITS

    name: ClassVar[str] = "measure"
    version: ClassVar[int] = 2
    inputs: ClassVar[tuple[str, ...]] = ()
    resources: ClassVar[Resources] = Resources(cpus=1, memory_mib=1024)
    outputs: ClassVar[Mapping[str, pa.DataType]] = {
        "bad_image": pa.string(),
        "measured_width": pa.int32(),
        "measured_height": pa.int32(),
        "phash": pa.uint64(),
        "thumbnail": pa.binary(),
        "embedding": pa.list_(pa.float32()),
        "score_bytes_per_pixel": pa.float32(),
        "score_jpeg_quality": pa.float32(),
        "score_blur": pa.float32(),
        "score_entropy": pa.float32(),
        "score_border": pa.float32(),
        "score_blocking": pa.float32(),
        "score_text_coverage": pa.float32(),
        "score_aesthetic": pa.float32(),
    }

    def run(self, partition: Partition) -> dict[str, list[Any]]:
        """Columns of one partition; a sample that cannot be read has its reason in `bad_image` and no measures."""
        columns: dict[str, list[Any]] = {name: [] for name in self.outputs}
        with ShardReader(partition.shards_folder) as reader:
            for index in range(partition.rows.num_rows):
                try:
                    found = {"bad_image": "", **measure(partition.read(reader, index), self.limits)}
                except BadImage as error:
                    found = {"bad_image": error.reason}
                for name, column in columns.items():
                    column.append(found.get(name))
        return columns


def measure(data: bytes, limits: DecodeLimits) -> dict[str, Any]:
    """Every measure of one encoded image. Raises BadImage."""
    with open_image(data) as image:
        width, height = image.size
        quality = jpeg_quality(image)
    rgb = decode_rgb(data, limits, max_side_px=MEASURE_SIDE_PX)
    small = shrink(rgb, MEASURE_SIDE_PX)
    grey, busiest = grey_of(small), busiest_channel(small)
    return {
        "measured_width": width,
        "measured_height": height,
        "phash": phash(grey),
        "thumbnail": thumbnail(small),
        "embedding": colour_gradient_embedding(small, grey),
        "score_bytes_per_pixel": len(data) / (width * height),
        "score_jpeg_quality": quality,
        "score_blur": min(blur_effect(grey), blur_effect(busiest)),
        "score_entropy": entropy(small),
        "score_border": border_share(busiest),
        "score_blocking": blocking(grey),
        "score_text_coverage": text_coverage(grey),
        "score_aesthetic": aesthetic_statistic(small, grey),
    }
