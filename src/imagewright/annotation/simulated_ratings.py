"""Curated pictures -> damaged copies -> simulated tournaments -> ratings and pairs, where nobody has voted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from imagewright.annotation.degradations import degrade, draw_damages
from imagewright.annotation.simulated import ORIGIN, SimulatedAnnotator, hold_tournament, subsets
from imagewright.annotation.tournament import Tournament, tier_score
from imagewright.config.aes import AesConfig
from imagewright.data.pixels import PixelSet

RATINGS_NAME = "ratings.parquet"
PAIRS_NAME = "pairs.parquet"


@dataclass(frozen=True)
class DamagedSet:
    """Damaged pictures [N, S, S, 3] uint8 with what was done to them. qualities [N] in 0..100 are exact."""

    images: NDArray[np.uint8]
    keys: list[str]
    categories: list[str]
    qualities: NDArray[np.float64]
    kinds: list[tuple[str, ...]]


@dataclass(frozen=True)
class Ratings:
    """What annotators left. scores [N] on 0..100 from tiers; pairs [P, 2] of (winner, loser) indices; tournament of each image [N]."""

    tiers: NDArray[np.int64]
    scores: NDArray[np.float64]
    pairs: NDArray[np.int64]
    annotators: list[str]
    comparisons_per_image: float


def damage_pictures(pictures: PixelSet, config: AesConfig, kinds: Sequence[str], seed: int) -> DamagedSet:
    """Damages every picture with kinds drawn from `kinds`; picture i's fate depends on (config, seed, i) only."""
    most = min(config.max_damages, len(kinds))
    damaged = []
    for index, image in enumerate(pictures.images):
        rng = np.random.default_rng([seed, index])
        damages = draw_damages(kinds, rng, clean_share=config.clean_share, max_kinds=most)
        damaged.append(degrade(image, damages, rng))
    return DamagedSet(
        np.stack([one.image for one in damaged]),
        [row.sample_key for row in pictures.rows],
        [row.category or row.source for row in pictures.rows],
        np.asarray([one.quality for one in damaged]),
        [one.kinds for one in damaged],
    )


def rate_by_tournament(damaged: DamagedSet, config: AesConfig, seed: int) -> Ratings:
    """Splits the pictures into tournaments, one simulated annotator each, and collects tiers and pairs."""
    index = {key: place for place, key in enumerate(damaged.keys)}
    qualities = dict(zip(damaged.keys, map(float, damaged.qualities), strict=True))
    tiers = np.zeros(len(index), dtype=np.int64)
    annotators = [""] * len(index)
    pairs: list[tuple[int, int]] = []
    for number, keys in enumerate(subsets(damaged.keys, config.tournament_images, seed)):
        annotator = SimulatedAnnotator(qualities, flip=config.annotator_flip, seed=seed + number)
        judged = hold_tournament(Tournament(tuple(keys), seed + number), annotator)
        for key, tier in judged.tiers.items():
            tiers[index[key]], annotators[index[key]] = tier, f"{ORIGIN}-{number:03d}"
        pairs += [(index[winner], index[loser]) for winner, loser in judged.pairs]
    scores = np.asarray([tier_score(int(tier)) for tier in tiers])
    return Ratings(tiers, scores, np.asarray(pairs, dtype=np.int64), annotators, 2 * len(pairs) / max(1, len(index)))


def write_ratings(folder: Path, damaged: DamagedSet, ratings: Ratings) -> None:
    """Writes ratings and pairs; every row names its origin, `simulated`."""
    folder.mkdir(parents=True, exist_ok=True)
    count, pair_count = len(damaged.keys), len(ratings.pairs)
    table = pa.table(
        {
            "sample_key": damaged.keys,
            "category": damaged.categories,
            "tier": ratings.tiers,
            "score": ratings.scores,
            "annotator": ratings.annotators,
            "origin": [ORIGIN] * count,
            "damages": [list(kinds) for kinds in damaged.kinds],
            "known_quality": damaged.qualities,
        }
    )
    pq.write_table(table, folder / RATINGS_NAME)
    winners, losers = ([damaged.keys[int(place)] for place in ratings.pairs[:, side]] for side in (0, 1))
    annotators = [ratings.annotators[int(place)] for place in ratings.pairs[:, 0]]
    pq.write_table(
        pa.table({"winner": winners, "loser": losers, "annotator": annotators, "origin": [ORIGIN] * pair_count}), folder / PAIRS_NAME
    )
