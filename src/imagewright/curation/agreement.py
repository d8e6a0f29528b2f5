"""Caption-image agreement inside the pool: does the picture predict its own caption better than other samples' captions?

An in-domain measure, not CLIP: ridge regression from image embeddings to caption words, fitted out of fold, so no sample is judged by
a model that saw it. It knows only the words and looks of this pool.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

MAX_WORDS = 512
MIN_TEXTS_PER_WORD = 4
NUM_FOLDS = 4
NUM_OTHERS = 64
RIDGE = 1e-2
BLOCK = 4096
MIN_SAMPLES = 32


def agreement_ranks(vectors: np.ndarray, texts: Sequence[str], seed: int) -> np.ndarray:
    """For each image [N, D] the share of 64 random other captions that fit it less well than its own: [N] float32, 0.5 is chance.

    NaN for every sample of a pool under 32 samples or without common words: then there is nothing to judge by.
    """
    words = caption_words(texts)
    if len(texts) < MIN_SAMPLES or not words.any():
        return np.full(len(texts), np.nan, np.float32)
    rng = np.random.default_rng([seed, 0xA6])
    folds = rng.permutation(len(texts)) % NUM_FOLDS
    design = np.concatenate([vectors, np.ones((len(vectors), 1), np.float32)], axis=1)
    ranks = np.empty(len(texts), np.float32)
    for fold in range(NUM_FOLDS):
        inside = np.flatnonzero(folds == fold)
        weights = ridge(design[folds != fold], words[folds != fold])
        for start in range(0, len(inside), BLOCK):
            block = inside[start : start + BLOCK]
            ranks[block] = rank_block(design[block] @ weights, words, block, rng)
    return ranks


def rank_block(predicted: np.ndarray, words: np.ndarray, block: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rank of the own caption among random others, ties counted half; captions with the same words are left out."""
    own = (predicted * words[block]).sum(axis=1)
    others = rng.integers(len(words), size=(len(block), NUM_OTHERS))
    better, counted = np.zeros(len(block)), np.zeros(len(block))
    for column in others.T:
        fit = (predicted * words[column]).sum(axis=1)
        different = (words[column] != words[block]).any(axis=1)
        better += different * ((own > fit) + 0.5 * (own == fit))
        counted += different
    return np.asarray(np.where(counted > 0, better / np.maximum(1, counted), 1.0), dtype=np.float32)


def ridge(design: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Weights [D, W] of ridge regression; the normal equations are solved in float64 because they square the condition number."""
    design, targets = design.astype(np.float64), targets.astype(np.float64)
    gram = design.T @ design + RIDGE * len(design) * np.eye(design.shape[1]) / design.shape[1]
    return np.asarray(np.linalg.solve(gram, design.T @ targets), dtype=np.float32)


def caption_words(texts: Sequence[str]) -> np.ndarray:
    """Words of captions [N, W] float32, weighed by rarity and at unit length; W is at most 512 words that at least 4 captions share."""
    split = [set(re.findall(r"[a-z]+|[一-鿿]", text.lower())) for text in texts]
    counts = Counter(word for words in split for word in words)
    common = [word for word, count in counts.most_common(MAX_WORDS) if MIN_TEXTS_PER_WORD <= count < len(texts)]
    places = {word: place for place, word in enumerate(common)}
    rarity = np.log(len(texts) / np.array([counts[word] for word in common], dtype=np.float32)) if common else np.empty(0, np.float32)
    matrix = np.zeros((len(texts), len(common)), np.float32)
    for row, words in enumerate(split):
        for word in words & places.keys():
            matrix[row, places[word]] = rarity[places[word]]
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True) if common else np.ones((len(texts), 1))
    return np.asarray(matrix / np.maximum(lengths, 1e-9), dtype=np.float32)
