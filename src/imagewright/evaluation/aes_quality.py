"""Holds an aesthetic scorer against pictures of known quality, with the best single picture statistic beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from imagewright.annotation.simulated_ratings import DamagedSet
from imagewright.curation.aesthetics import aesthetic_statistic, colourfulness, contrast, edge_density
from imagewright.evaluation.rank_statistics import MIN_SAMPLES, Agreement, agreement, spearman

Scores = NDArray[np.float64]


class Scorer(Protocol):
    """Anything that scores pictures."""

    def score(self, images: NDArray[np.uint8]) -> Scores:
        """RGB uint8 [n, H, W, 3] -> [n]; higher is better."""


def sharpness(_: np.ndarray, grey: np.ndarray) -> float:
    """Log variance of the Laplacian: low for blur, high for edges and noise."""
    return float(np.log1p(cv2.Laplacian(grey, cv2.CV_32F).var()))


STATISTICS: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "sharpness": sharpness,
    "colourfulness": lambda rgb, _: colourfulness(rgb),
    "contrast": lambda _, grey: contrast(grey),
    "edge_density": lambda _, grey: edge_density(grey),
    "aesthetic_statistic": aesthetic_statistic,
}


@dataclass(frozen=True)
class StatisticScorer:
    """One picture statistic as a scorer, the baseline a model must beat. sign: -1 where less is better."""

    name: str
    sign: float = 1.0

    def score(self, images: NDArray[np.uint8]) -> Scores:
        """RGB uint8 [n, H, W, 3] -> [n]."""
        statistic = STATISTICS[self.name]
        return self.sign * np.asarray([statistic(image, cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)) for image in images])


def best_statistic(images: NDArray[np.uint8], ratings: Scores) -> StatisticScorer:
    """The statistic (and its sign) that agrees best with the ratings of the training images."""
    found = {name: spearman(StatisticScorer(name).score(images), ratings) for name in STATISTICS}
    name = max(found, key=lambda key: abs(found[key]))
    return StatisticScorer(name, 1.0 if found[name] >= 0 else -1.0)


def agreement_by_kind(scores: Scores, test: DamagedSet, seed: int = 0) -> dict[str, Agreement]:
    """Agreement with known quality within the pictures of each kind of damage; kinds of fewer than 3 pictures are left out."""
    result = {}
    for kind in sorted({kind for kinds in test.kinds for kind in kinds}):
        chosen = np.asarray([kind in kinds for kinds in test.kinds])
        if chosen.sum() >= MIN_SAMPLES and np.ptp(test.qualities[chosen]) > 0:
            result[kind] = agreement(scores[chosen], test.qualities[chosen], seed=seed, resamples=200)
    return result


def flat(prefix: str, measured: Agreement) -> dict[str, float]:
    """Metrics of one agreement: value and interval of SRCC, value of PLCC."""
    return {
        f"{prefix}_srcc": measured.srcc.value,
        f"{prefix}_srcc_low": measured.srcc.low,
        f"{prefix}_srcc_high": measured.srcc.high,
        f"{prefix}_plcc": measured.plcc.value,
    }
