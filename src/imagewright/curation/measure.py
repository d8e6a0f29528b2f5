"""Stage measure: probe (header first), quality, perceptual hash and picture statistics of every sample in one decode."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from imagewright.curation.aesthetics import aesthetic_statistic
from imagewright.curation.embedding import colour_gradient_embedding
from imagewright.curation.perceptual_hash import hash_input, phash, thumbnail
from imagewright.curation.quality import (
    blocking,
    blur_effect,
    border_share,
    busiest_channel,
    channel_histograms,
    entropy,
    grey_of,
    jpeg_quality,
    shrink,
    text_coverage,
)
from imagewright.curation.stage import Partition, Resources
from imagewright.data.images import DEFAULT_LIMITS, BadImage, DecodeLimits, ImageHeader, decode_with_header
from imagewright.data.shards import ShardReader

MEASURE_SIDE_PX = 256
"""Quality is measured on at most this side: cheaper, and comparable between sizes."""
STACK_BYTES = 64 << 10
"""Pictures of one size are measured in stacks of about this: small ones by the dozen, and everything stays in a core's cache."""
MAX_WAITING_BYTES = 32 << 20
"""Decoded pictures that wait for others of their size; beyond this all are measured."""


@dataclass(frozen=True)
class MeasureStage:
    """Reads every sample once: what its header says, whether it decodes, and what its pixels measure."""

    limits: DecodeLimits = DEFAULT_LIMITS

    name: ClassVar[str] = "measure"
    version: ClassVar[int] = 3
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
        with ShardReader(partition.shards_folder) as reader:
            measured = measure_all(partition.images(reader), self.limits)
        return {name: [found.get(name) for found in measured] for name in self.outputs}


Measures = dict[str, Any]
"""Columns of one sample; a missing one is null."""
Waiting = list[tuple[Measures, np.ndarray]]
"""Samples and their pictures RGB [H, W, 3] uint8, all of one size."""


def measure_all(encoded: Iterable[bytes | BadImage], limits: DecodeLimits) -> list[Measures]:
    """Columns of every encoded image, in order; one that cannot be read has only its reason. Equal images have equal columns."""
    measured: list[Measures] = []
    groups: defaultdict[tuple[int, ...], Waiting] = defaultdict(list)
    waiting_bytes = 0
    for data in encoded:
        try:
            if isinstance(data, BadImage):
                raise data
            header, rgb = decode_with_header(data, limits, max_side_px=MEASURE_SIDE_PX)
        except BadImage as error:
            measured.append({"bad_image": error.reason})
            continue
        small = shrink(rgb, MEASURE_SIDE_PX)
        measured.append(header_measures(data, header))
        groups[small.shape].append((measured[-1], small))
        waiting_bytes += small.nbytes
        if len(groups[small.shape]) * small.nbytes >= STACK_BYTES:
            waiting_bytes -= measure_stack(groups.pop(small.shape))
        if waiting_bytes >= MAX_WAITING_BYTES:
            waiting_bytes -= sum(measure_stack(group) for group in groups.values())
            groups.clear()
    for group in groups.values():
        measure_stack(group)
    return measured


def header_measures(data: bytes, header: ImageHeader) -> Measures:
    """What the header and the number of bytes say."""
    return {
        "bad_image": "",
        "measured_width": header.width,
        "measured_height": header.height,
        "score_bytes_per_pixel": len(data) / (header.width * header.height),
        "score_jpeg_quality": jpeg_quality(header.luminance_steps),
    }


def measure_stack(group: Waiting) -> int:
    """Adds what the pixels say to every sample of a group; returns the pictures' bytes."""
    rgb = np.stack([picture for _, picture in group])
    grey, histograms = grey_of(rgb), channel_histograms(rgb)
    busiest, squares = busiest_channel(rgb, histograms), hash_input(grey)
    columns: dict[str, Iterable[Any]] = {
        "phash": phash(squares).tolist(),
        "thumbnail": map(thumbnail, rgb),
        "embedding": colour_gradient_embedding(rgb, squares),
        "score_blur": np.minimum(blur_effect(grey), blur_effect(busiest)).tolist(),
        "score_entropy": entropy(histograms).tolist(),
        "score_border": border_share(busiest).tolist(),
        "score_blocking": blocking(grey).tolist(),
        "score_text_coverage": text_coverage(grey).tolist(),
        "score_aesthetic": map(aesthetic_statistic, rgb, grey),
    }
    for name, values in columns.items():
        for (found, _), value in zip(group, values, strict=True):
            found[name] = value
    return rgb.nbytes
