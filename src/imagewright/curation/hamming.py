"""Exact neighbours among 64-bit hashes: every pair within a Hamming radius, by the pigeonhole principle instead of n**2 comparisons.

Cut 64 bits into m = r + 2 blocks: two hashes at most r bits apart agree on at least two whole blocks. For each pair of blocks,
sorting by those bits puts all candidates next to each other.
"""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np

HASH_BITS = 64


def pairs_within(hashes: np.ndarray, radius: int) -> np.ndarray:
    """Every pair (i, j), i < j, of hashes [N] uint64 at most `radius` bits apart: [P, 2] int64, sorted, each once. Exact.

    Equal hashes are collapsed first, so a value held by many samples costs its pairs and no more.
    """
    hashes = np.ascontiguousarray(hashes, dtype=np.uint64)
    unique, inverse = np.unique(hashes, return_inverse=True)
    near = unique_pairs_within(unique, radius) if radius > 0 else np.empty((0, 2), np.int64)
    order = np.argsort(inverse, kind="stable")
    starts = np.searchsorted(inverse[order], np.arange(len(unique) + 1))
    pairs = [cross_product(order, starts, near)]
    pairs += [all_pairs(order[starts[group] : starts[group + 1]]) for group in np.flatnonzero(np.diff(starts) > 1)]
    found = np.sort(np.concatenate(pairs).astype(np.int64).reshape(-1, 2), axis=1)
    return found[np.lexsort((found[:, 1], found[:, 0]))]


def cross_product(order: np.ndarray, starts: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Members of group a times members of group b, for each pair (a, b) of groups [G, 2]."""
    sizes = np.diff(starts)
    simple = (sizes[groups] == 1).all(axis=1)
    parts = [order[starts[groups[simple]]]]
    for a, b in groups[~simple]:
        first, second = order[starts[a] : starts[a + 1]], order[starts[b] : starts[b + 1]]
        parts.append(np.stack(np.meshgrid(first, second, indexing="ij"), axis=-1).reshape(-1, 2))
    return np.concatenate(parts)


def all_pairs(members: np.ndarray) -> np.ndarray:
    """Every pair of a group."""
    first, second = np.triu_indices(len(members), 1)
    return np.stack([members[first], members[second]], axis=1)


def unique_pairs_within(unique: np.ndarray, radius: int) -> np.ndarray:
    """Pairs of distinct hashes [N] uint64 at most `radius` bits apart, as positions [P, 2] int64, each once."""
    count = len(unique)
    if count < 2:
        return np.empty((0, 2), np.int64)
    position_bits = int(count - 1).bit_length()
    edges = np.linspace(0, HASH_BITS, radius + 3).astype(int)
    masks = [np.uint64(((1 << int(high - low)) - 1) << int(low)) for low, high in pairwise(edges)]
    found = []
    for first, second in combinations(range(len(masks)), 2):
        key = compress(unique, edges, first, second)
        bits = int(edges[first + 1] - edges[first] + edges[second + 1] - edges[second])
        assert bits + position_bits <= HASH_BITS, "too many hashes for this radius"
        # Key and position in one word: sorting plain words is several times faster than an argsort.
        packed = np.sort((key << np.uint64(position_bits)) | np.arange(count, dtype=np.uint64))
        found.append(neighbours_in_runs(unique, packed, position_bits, radius, masks[:first], masks[first + 1 : second]))
    return np.concatenate(found)


def compress(hashes: np.ndarray, edges: np.ndarray, first: int, second: int) -> np.ndarray:
    """The bits of two blocks, side by side."""

    def block(index: int) -> np.ndarray:
        width = int(edges[index + 1] - edges[index])
        return np.asarray((hashes >> np.uint64(edges[index])) & np.uint64((1 << width) - 1))

    return np.asarray((block(first) << np.uint64(edges[second + 1] - edges[second])) | block(second))


def neighbours_in_runs(
    hashes: np.ndarray, packed: np.ndarray, position_bits: int, radius: int, before: list[np.uint64], between: list[np.uint64]
) -> np.ndarray:
    """Pairs within the radius among entries with equal keys; a pair is reported by its first pair of agreeing blocks only.

    before, between: masks of the blocks that come earlier; a pair that agrees on one of them was reported there already.
    """
    keys = packed >> np.uint64(position_bits)
    positions = (packed & np.uint64((1 << position_bits) - 1)).astype(np.int64)
    values = hashes[positions]
    live = np.arange(len(packed) - 1)
    found = []
    shift = 1
    while len(live):
        live = live[live + shift < len(packed)]
        live = live[keys[live] == keys[live + shift]]
        different = values[live] ^ values[live + shift]
        near = np.bitwise_count(different) <= radius
        for mask in (*before, *between):
            near &= (different & mask) != 0
        hits = live[near]
        found.append(np.stack([positions[hits], positions[hits + shift]], axis=1))
        shift += 1
    return np.concatenate(found) if found else np.empty((0, 2), np.int64)
