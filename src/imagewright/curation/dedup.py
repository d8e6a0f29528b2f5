"""Duplicates in three tiers: the same bytes, the same look, the same embedding; of each kind the best copy is kept.

Perceptual hashes only propose pairs; thumbnails confirm them, so pictures that differ in colour or place stay apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imagewright.config.curation import DedupConfig
from imagewright.curation.hamming import pairs_within
from imagewright.curation.perceptual_hash import thumbnail_difference

EXACT, NEAR, EMBEDDING = "duplicate_exact", "duplicate_near", "duplicate_embedding"
PAIR_BLOCK = 1 << 18
COSINE_BLOCK = 2048
FULL_SIDE_PX = 64


@dataclass(frozen=True)
class Fingerprints:
    """What duplicates are found by; one entry per sample, in any order."""

    keys: Sequence[str]
    digests: Sequence[str]
    """SHA-256 of the bytes."""
    hashes: np.ndarray
    """[N] uint64."""
    has_hash: np.ndarray
    """[N] bool: False where the image could not be read; such a sample only has bytes to compare."""
    thumbnails: np.ndarray
    """[N, 432] uint8."""
    rank: np.ndarray
    """[N] int64, the lower the better: the order in which copies are kept."""
    sides_px: np.ndarray
    """[N] shorter side: under 64 px one pixel weighs more in a thumbnail cell, so up to twice the difference is forgiven."""
    embeddings: np.ndarray | None = None
    """[N, D] float32 at unit length."""


def find_duplicates(prints: Fingerprints, section: DedupConfig) -> dict[int, tuple[str, int]]:
    """Sample -> (tier, sample kept instead). Samples are visited from the best rank down; one is dropped when it is a duplicate of a
    kept one, so chains of small changes do not collapse into one picture.
    """
    dropped: dict[int, tuple[str, int]] = {}
    for tier, pairs in (
        (EXACT, exact_pairs(prints)),
        (NEAR, near_pairs(prints, section)),
        (EMBEDDING, embedding_pairs(prints, section)),
    ):
        keep_best(pairs, prints.rank, tier, dropped)
    return dropped


def exact_pairs(prints: Fingerprints) -> np.ndarray:
    """Pairs with the same bytes, each copy with the best of its group: [P, 2]."""
    best: dict[str, int] = {}
    for index in np.argsort(prints.rank, kind="stable").tolist():
        best.setdefault(prints.digests[index], index)
    pairs = [(best[digest], index) for index, digest in enumerate(prints.digests) if best[digest] != index]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def near_pairs(prints: Fingerprints, section: DedupConfig) -> np.ndarray:
    """Pairs of different bytes that look the same: near in hash, confirmed by thumbnail: [P, 2]."""
    readable = np.flatnonzero(prints.has_hash)
    _, first = np.unique(np.asarray(prints.digests, dtype=object)[readable].astype(str), return_index=True)
    readable = readable[np.sort(first)] if len(readable) else readable
    candidates = readable[pairs_within(prints.hashes[readable], section.max_hamming)]
    confirmed = []
    for start in range(0, len(candidates), PAIR_BLOCK):
        block = candidates[start : start + PAIR_BLOCK]
        mean, largest = thumbnail_difference(prints.thumbnails[block[:, 0]], prints.thumbnails[block[:, 1]])
        forgive = np.clip(FULL_SIDE_PX / np.maximum(1, prints.sides_px[block].min(axis=1)), 1.0, 2.0)
        confirmed.append(block[(mean <= section.max_thumbnail_difference * forgive) & (largest <= section.max_cell_difference * forgive)])
    return np.concatenate(confirmed) if confirmed else np.empty((0, 2), np.int64)


def embedding_pairs(prints: Fingerprints, section: DedupConfig) -> np.ndarray:
    """Pairs whose embeddings have at least `min_cosine`: [P, 2]. Exact, block by block; off at 1."""
    if prints.embeddings is None or section.min_cosine >= 1:
        return np.empty((0, 2), np.int64)
    vectors = prints.embeddings
    found = []
    for start in range(0, len(vectors), COSINE_BLOCK):
        similar = vectors[start : start + COSINE_BLOCK] @ vectors[start:].T >= section.min_cosine
        rows, columns = np.nonzero(np.triu(similar, 1))
        found.append(np.stack([rows + start, columns + start], axis=1))
    return np.concatenate(found) if found else np.empty((0, 2), np.int64)


def keep_best(pairs: np.ndarray, rank: np.ndarray, tier: str, dropped: dict[int, tuple[str, int]]) -> None:
    """Visits samples from the best rank down and drops those paired with a kept one; adds them to `dropped`."""
    if not len(pairs):
        return
    worse_second = rank[pairs[:, 0]] <= rank[pairs[:, 1]]
    ordered = np.where(worse_second[:, None], pairs, pairs[:, ::-1])
    ordered = ordered[np.lexsort((rank[ordered[:, 0]], rank[ordered[:, 1]]))]
    for better, worse in ordered.tolist():
        if better not in dropped and worse not in dropped:
            dropped[worse] = (tier, better)


def rank_copies(
    splits: Sequence[str], pixels: np.ndarray, bytes_per_pixel: np.ndarray, keys: Sequence[str], is_earlier: np.ndarray | None = None
) -> np.ndarray:
    """The keep-best order: earlier snapshots, then evaluation splits (a copy must not leak into training), then more pixels, then more
    bytes per pixel (less compression), then the smaller key. Returns ranks [N] int64.
    """
    earlier = np.zeros(len(keys), bool) if is_earlier is None else is_earlier
    training = np.array([split == "train" for split in splits])
    order = np.lexsort((np.asarray(keys), -np.nan_to_num(bytes_per_pixel), -pixels, training, ~earlier))
    rank = np.empty(len(keys), np.int64)
    rank[order] = np.arange(len(keys))
    return rank
