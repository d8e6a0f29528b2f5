"""k-means on unit vectors in numpy: blockwise, seeded, with re-seeding of empty clusters."""

from __future__ import annotations

import numpy as np

BLOCK = 8192
MAX_ITERATIONS = 30
TOLERANCE = 1e-4


def kmeans(vectors: np.ndarray, num_clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Centroids [K, D] float32 of vectors [N, D], K = min(num_clusters, N): k-means++ start, then Lloyd's iterations.

    Sums run in float64 so that the result does not depend on the block size beyond rounding.
    """
    num_clusters = min(num_clusters, len(vectors))
    assert num_clusters > 0, "k-means needs at least one vector"
    centroids = plus_plus(vectors, num_clusters, rng)
    before = np.inf
    for _ in range(MAX_ITERATIONS):
        labels, distances = assign(vectors, centroids)
        inertia = float(distances.sum(dtype=np.float64))
        sums = np.zeros(centroids.shape, np.float64)
        np.add.at(sums, labels, vectors)
        counts = np.bincount(labels, minlength=num_clusters)
        filled = counts > 0
        centroids = np.where(filled[:, None], sums / np.maximum(1, counts)[:, None], centroids).astype(np.float32)
        if not filled.all():
            # An empty cluster moves to the samples that are served worst.
            centroids[~filled] = vectors[np.argsort(distances)[::-1][: int((~filled).sum())]]
        elif before - inertia <= TOLERANCE * max(inertia, 1e-12):
            break
        before = inertia
    return centroids


def plus_plus(vectors: np.ndarray, num_clusters: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++ seeding (Arthur and Vassilvitskii, 2007)."""
    chosen = [int(rng.integers(len(vectors)))]
    nearest = squared_distances(vectors, vectors[chosen])[:, 0].astype(np.float64)
    while len(chosen) < num_clusters:
        total = nearest.sum()
        pick = int(rng.integers(len(vectors))) if total <= 0 else int(np.searchsorted(np.cumsum(nearest), rng.random() * total))
        chosen.append(min(pick, len(vectors) - 1))
        nearest = np.minimum(nearest, squared_distances(vectors, vectors[chosen[-1:]])[:, 0])
    return np.asarray(vectors[chosen], dtype=np.float32)


def assign(vectors: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest centroid of each vector: (labels [N] int64, squared distances [N] float32)."""
    labels, distances = np.empty(len(vectors), np.int64), np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), BLOCK):
        block = squared_distances(vectors[start : start + BLOCK], centroids)
        best = block.argmin(axis=1)
        labels[start : start + BLOCK] = best
        distances[start : start + BLOCK] = block[np.arange(len(block)), best]
    return labels, distances


def squared_distances(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """[N, K] squared Euclidean distances."""
    products = vectors @ centroids.T
    squares = (vectors * vectors).sum(axis=1)[:, None] + (centroids * centroids).sum(axis=1)[None]
    return np.asarray(np.maximum(0.0, squares - 2 * products))
