"""How good a sample looks, as the sampling mix asks it: the registered aesthetic model's score, or a measured statistic.

The stage scores the raw pool partition by partition, beside the other stages; what it writes is named by the model's digest.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imagewright.curation.aesthetics import LABEL
from imagewright.curation.stage import Partition, Resources
from imagewright.data.buckets import Bucket, fit_to_bucket
from imagewright.data.images import BadImage, DecodeLimits, decode_rgb
from imagewright.data.shards import ShardReader

AES_SCORE, STATISTIC = "score_aes", "score_aesthetic"
BATCH_IMAGES = 64


@dataclass(frozen=True)
class AestheticPayload:
    """A trained aesthetic model on disk. Only its digest is part of a result's name: equal weights give equal scores anywhere."""

    digest: str
    folder: Path = field(repr=False)
    revision: str = field(default="", repr=False)
    """`aes@N`."""


@dataclass(frozen=True)
class AestheticStage:
    """Scores every readable sample, 0 to 100."""

    limits: DecodeLimits
    scorer: AestheticPayload

    name: ClassVar[str] = "aesthetic"
    version: ClassVar[int] = 1
    inputs: ClassVar[tuple[str, ...]] = ()
    resources: ClassVar[Resources] = Resources(cpus=1, memory_mib=2048)
    outputs: ClassVar[Mapping[str, pa.DataType]] = {AES_SCORE: pa.float32()}

    def run(self, partition: Partition) -> dict[str, list[Any]]:
        """One score per row; None for a sample that cannot be read."""
        from imagewright.models.aesthetic import load_scorer

        scorer = load_scorer(self.scorer.folder)
        scores: list[float | None] = [None] * partition.rows.num_rows
        waiting: list[tuple[int, NDArray[np.uint8]]] = []

        def score_waiting() -> None:
            if waiting:
                found = scorer.score(np.stack([image for _, image in waiting]))
                for (place, _), score in zip(waiting, found.tolist(), strict=True):
                    scores[place] = score
                waiting.clear()

        side = scorer.config.side_px
        with ShardReader(partition.shards_folder) as reader:
            for index in range(len(scores)):
                try:
                    image = decode_rgb(partition.read(reader, index), self.limits)
                except BadImage:
                    continue
                waiting.append((index, fit_to_bucket(image, Bucket(side, side))))
                if len(waiting) == BATCH_IMAGES:
                    score_waiting()
        score_waiting()
        return {AES_SCORE: scores}


def look_expression(columns: Collection[str]) -> str:
    """SQL for a row's look on any scale (the mix uses its z): the model's score where there is one, else the statistic, else a constant."""
    if AES_SCORE in columns:
        return f"CAST(coalesce({AES_SCORE}, 50) AS DOUBLE)"
    return f"CAST(coalesce({STATISTIC}, 0.5) AS DOUBLE)" if STATISTIC in columns else "CAST(0.5 AS DOUBLE)"


def describe_look(scorer: AestheticPayload | None) -> list[str]:
    """Lines of the dataset card: what the mix is weighed by, and what that was learned from."""
    if scorer is None:
        return [f"- `{STATISTIC}`: {LABEL}. The sampling mix is weighed by it."]
    from imagewright.models.aesthetic import load_scorer

    origin, named = load_scorer(scorer.folder).origin, f"{scorer.revision or 'given as a payload'} (`{scorer.digest}`)"
    return [
        f"- `{AES_SCORE}`: the aesthetic model {named}, trained on {origin} ratings, 0 to 100. The sampling mix is weighed by it.",
        f"- `{STATISTIC}`: {LABEL}.",
    ]
