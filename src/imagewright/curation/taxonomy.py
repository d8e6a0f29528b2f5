"""The taxonomy: fine categories by k-means over image embeddings, groups by k-means over their centroids, names from captions,
and a classifier head that assigns every image with a confidence.

Bottom-up clustering follows Vo et al., "Automatic data curation for self-supervised learning: a clustering-based approach",
arXiv 2405.15613; the published model does not say how its 10,000 classes arose.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imagewright.config.curation import TaxonomyConfig
from imagewright.curation.kmeans import assign, kmeans

TAXONOMY_NAME = "taxonomy.json"
HEAD_NAME = "taxonomy_head.npz"
HEAD_STEPS = 200
HEAD_BATCH = 1 << 14
"""Samples of one step at most: with 10,000 classes their logits take 650 MB."""
HEAD_LEARNING_RATE = 0.5
HEAD_SCALE = 16.0
WORDS_IN_NAME = 2
# Words that say how a caption is phrased, not what is seen.
FILLER = frozenset(
    ["a", "an", "the", "of", "on", "in", "at", "with", "and", "or", "is", "are", "to", "from", "it", "its", "this", "that", "there", "one",
     "group", "picture", "image", "simple", "drawn", "draw", "icon", "flat", "background", "white", "grey", "black", "shows", "style",
     "please", "make", "outlines", "dark", "colours", "bright"]
)  # fmt: skip


@dataclass(frozen=True)
class Taxonomy:
    """Two levels of categories and the head that assigns them."""

    names: tuple[str, ...]
    """`group/category` of each fine class."""
    groups: np.ndarray
    """[K] int64: group of each fine class."""
    weights: np.ndarray
    """[K, D] float32: the head."""
    bias: np.ndarray
    """[K] float32."""

    def classify(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(fine class [N] int64, confidence [N] float32) of embeddings [N, D]."""
        labels, confidence = np.empty(len(vectors), np.int64), np.empty(len(vectors), np.float32)
        for start in range(0, len(vectors), 8192):
            shares = softmax(vectors[start : start + 8192] @ self.weights.T + self.bias)
            labels[start : start + 8192] = shares.argmax(axis=1)
            confidence[start : start + 8192] = shares.max(axis=1)
        return labels, confidence

    def save(self, folder: Path) -> None:
        """Writes names as JSON and the head as .npz without pickles."""
        tree = {"names": list(self.names), "groups": self.groups.tolist()}
        (folder / TAXONOMY_NAME).write_text(json.dumps(tree, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        np.savez(folder / HEAD_NAME, weights=self.weights, bias=self.bias)


def load_taxonomy(folder: Path) -> Taxonomy:
    """Reads a taxonomy back; no pickle is opened."""
    tree = json.loads((folder / TAXONOMY_NAME).read_text(encoding="utf-8"))
    with np.load(folder / HEAD_NAME, allow_pickle=False) as head:
        return Taxonomy(tuple(tree["names"]), np.array(tree["groups"], np.int64), head["weights"], head["bias"])


def fit_taxonomy(vectors: np.ndarray, texts: Sequence[str], section: TaxonomyConfig, seed: int) -> Taxonomy:
    """Finds categories on embeddings [N, D] (at most `max_fit_samples` of them) and names them from the samples' captions."""
    rng = np.random.default_rng([seed, 0x7A])
    sample = np.sort(rng.permutation(len(vectors))[: section.max_fit_samples])
    fitted = np.ascontiguousarray(vectors[sample])
    centroids = kmeans(fitted, section.num_categories, rng)
    labels, _ = assign(fitted, centroids)
    used = np.unique(labels)
    labels = np.searchsorted(used, labels)
    centroids = centroids[used]
    group_centroids = kmeans(centroids, section.num_groups, rng)
    groups, _ = assign(centroids, group_centroids)
    weights, bias = train_head(fitted, labels, centroids)
    names = name_classes([texts[i] for i in sample], labels, groups)
    return Taxonomy(names, groups, weights, bias)


def train_head(vectors: np.ndarray, labels: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A linear softmax head, cross-entropy by gradient steps over large blocks, started at the nearest-centroid rule.

    argmin |x - c|**2 = argmax (2 c.x - |c|**2), so the start already assigns as k-means does; training sharpens the confidence.
    """
    weights = (HEAD_SCALE * 2 * centroids).astype(np.float32)
    bias = (-HEAD_SCALE * (centroids * centroids).sum(axis=1)).astype(np.float32)
    # Strided blocks: each is a cross-section of the data, and in turn all are used.
    num_blocks = max(1, -(-len(vectors) // HEAD_BATCH))
    for step in range(HEAD_STEPS):
        sample, target = vectors[step % num_blocks :: num_blocks], labels[step % num_blocks :: num_blocks]
        error = softmax(sample @ weights.T + bias)
        error[np.arange(len(sample)), target] -= 1
        weights -= HEAD_LEARNING_RATE * HEAD_SCALE * (error.T @ sample) / len(sample)
        bias -= HEAD_LEARNING_RATE * error.mean(axis=0)
    return weights, bias


def softmax(logits: np.ndarray) -> np.ndarray:
    """Row-wise softmax."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def name_classes(texts: Sequence[str], labels: np.ndarray, groups: np.ndarray) -> tuple[str, ...]:
    """`group/category` names from the words that set each cluster's captions apart (class-based tf-idf); unique by a number if need be."""
    words = [sorted({word for word in re.findall(r"[a-z]+|[一-鿿]+", text.lower()) if word not in FILLER}) for text in texts]
    overall = document_counts(words)
    fine = [top_words(inside, overall, len(words)) for inside in by_class(words, labels, len(groups))]
    coarse = [top_words(inside, overall, len(words)) for inside in by_class(words, groups[labels], int(groups.max()) + 1)]
    names: list[str] = []
    copies: Counter[str] = Counter()
    for label, group in enumerate(groups):
        name = f"{coarse[group]}/{fine[label]}"
        copies[name] += 1
        names.append(f"{name}-{copies[name]}" if copies[name] > 1 else name)
    return tuple(names)


def by_class(words: Sequence[Sequence[str]], labels: np.ndarray, num_classes: int) -> list[list[Sequence[str]]]:
    """The texts of each class."""
    inside: list[list[Sequence[str]]] = [[] for _ in range(num_classes)]
    for text, label in zip(words, labels.tolist(), strict=True):
        inside[label].append(text)
    return inside


def top_words(inside: Sequence[Sequence[str]], overall: Counter[str], num_texts: int) -> str:
    """The words most over-represented inside: share of texts inside times log of the lift over all texts."""
    here = document_counts(inside)
    if not here:
        return "unnamed"
    lift = {word: count / len(inside) * math.log(1e-9 + count / len(inside) * num_texts / overall[word]) for word, count in here.items()}
    best = sorted(lift, key=lambda word: (-lift[word], word))[:WORDS_IN_NAME]
    return "-".join(best)


def document_counts(everywhere: Sequence[Sequence[str]]) -> Counter[str]:
    """Number of texts that hold each word; a text names a word once."""
    return Counter(word for words in everywhere for word in words)
