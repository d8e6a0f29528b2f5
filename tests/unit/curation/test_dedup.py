"""Duplicates: the best copy stays, a chain does not collapse, evaluation copies win over training copies."""

from __future__ import annotations

import numpy as np

from imagewright.config.curation import DedupConfig
from imagewright.curation.dedup import EMBEDDING, EXACT, NEAR, Fingerprints, find_duplicates, rank_copies


def prints(digests: list[str], hashes: list[int], rank: list[int], thumbs: np.ndarray | None = None, **more: np.ndarray) -> Fingerprints:
    count = len(digests)
    thumbnails = np.zeros((count, 432), np.uint8) if thumbs is None else thumbs
    return Fingerprints(
        [f"k{i}" for i in range(count)],
        digests,
        np.array(hashes, np.uint64),
        np.ones(count, bool),
        thumbnails,
        np.array(rank),
        np.full(count, 64),
        **more,
    )


def test_same_bytes_keep_the_best_ranked_copy() -> None:
    found = find_duplicates(prints(["a", "b", "a", "a"], [0, 2**60 - 1, 0, 0], [2, 3, 0, 1]), DedupConfig())
    assert found == {0: (EXACT, 2), 3: (EXACT, 2)}


def test_near_hashes_need_like_thumbnails() -> None:
    thumbs = np.zeros((3, 432), np.uint8)
    thumbs[2] = 255
    found = find_duplicates(prints(["a", "b", "c"], [0, 0b111111, 0], [0, 1, 2], thumbs), DedupConfig(max_hamming=6))
    assert found == {1: (NEAR, 0)}
    assert find_duplicates(prints(["a", "b"], [0, 0b1111111], [0, 1]), DedupConfig(max_hamming=6)) == {}


def test_a_chain_of_small_changes_does_not_collapse_into_one_picture() -> None:
    hashes = [0, 0b1111, 0b11111111]
    assert find_duplicates(prints(["a", "b", "c"], hashes, [0, 1, 2]), DedupConfig(max_hamming=4)) == {1: (NEAR, 0)}


def test_like_embeddings_are_duplicates_when_the_tier_is_on() -> None:
    vectors = np.array([[1, 0], [0.999, 0.0447], [0, 1]], np.float32)
    hashes = [0, 2**32 - 1, 2**64 - 2**32]
    sample = prints(["a", "b", "c"], hashes, [0, 1, 2], embeddings=vectors)
    assert find_duplicates(sample, DedupConfig(min_cosine=0.99)) == {1: (EMBEDDING, 0)}
    assert find_duplicates(sample, DedupConfig(min_cosine=1.0)) == {}


def test_an_unreadable_image_is_only_compared_by_bytes() -> None:
    sample = Fingerprints(
        ["x", "y", "z"],
        ["a", "b", "a"],
        np.zeros(3, np.uint64),
        np.zeros(3, bool),
        np.zeros((3, 432), np.uint8),
        np.arange(3),
        np.full(3, 64),
    )
    assert find_duplicates(sample, DedupConfig()) == {2: (EXACT, 0)}


def test_ranks_prefer_earlier_revisions_then_evaluation_then_size() -> None:
    rank = rank_copies(
        ["train", "train", "validation", "train"], np.array([9, 4, 1, 1]), np.ones(4), list("abcd"), np.array([False, False, False, True])
    )
    assert rank.tolist() == [2, 3, 1, 0]
