"""Hamming neighbours: exactly the pairs that comparing everything with everything finds."""

from __future__ import annotations

import numpy as np
import pytest

from imagewright.curation.hamming import pairs_within


def brute_force(hashes: np.ndarray, radius: int) -> np.ndarray:
    near = np.bitwise_count(hashes[:, None] ^ hashes[None]) <= radius
    return np.argwhere(np.triu(near, 1))


@pytest.mark.parametrize("radius", [0, 1, 2, 4, 6, 10])
def test_every_pair_within_the_radius_is_found_once(radius: int) -> None:
    rng = np.random.default_rng(radius)
    hashes = rng.integers(0, 2**64, 400, dtype=np.uint64)
    for index in range(150):
        flips = rng.choice(64, size=int(rng.integers(0, radius + 3)), replace=False)
        hashes[200 + index] = hashes[index] ^ np.uint64(sum(1 << int(bit) for bit in flips))
    hashes[350:360] = hashes[0]
    assert np.array_equal(pairs_within(hashes, radius), brute_force(hashes, radius))


def test_the_radius_is_inclusive() -> None:
    hashes = np.array([0, 0b1111, 0b11111], dtype=np.uint64)
    assert pairs_within(hashes, 4).tolist() == [[0, 1], [1, 2]]


def test_no_hashes_have_no_pairs() -> None:
    assert pairs_within(np.empty(0, np.uint64), 4).shape == (0, 2)
    assert pairs_within(np.array([7], np.uint64), 4).shape == (0, 2)
