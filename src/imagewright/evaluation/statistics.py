"""Intervals and comparisons of scores: prompts are resampled, never images, because images of one prompt are not independent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A score with its percentile bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedComparison:
    """a against b on the same prompts."""

    difference: Interval
    """Mean of a - b."""
    win_rate: float
    """Share of prompts where a scores higher; ties count one half."""
    probability_better: float
    """Share of resamples in which a's mean is above b's (equal counts one half)."""
    num_prompts: int


def resampled_means(scores: NDArray[np.float64], resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Means [resamples] of bootstrap draws of prompts from scores [P]."""
    picks = rng.integers(0, len(scores), (resamples, len(scores)))
    return np.asarray(scores[picks].mean(axis=1))


def bootstrap(scores: Sequence[float], resamples: int = 2000, seed: int = 0) -> Interval:
    """Mean of per-prompt scores [P] with a 95% percentile interval (Efron, 1979)."""
    return bootstrap_groups({"": scores}, resamples, seed)


def bootstrap_groups(groups: Mapping[str, Sequence[float]], resamples: int = 2000, seed: int = 0) -> Interval:
    """Unweighted mean of the groups' means, prompts resampled within each group: how GenEval's overall is formed from its six tasks."""
    filled = [np.asarray(scores, dtype=np.float64) for _, scores in sorted(groups.items()) if len(scores)]
    assert filled, "an interval needs at least one score"
    rng = np.random.default_rng(seed)
    means = np.mean([resampled_means(scores, resamples, rng) for scores in filled], axis=0)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    value = float(np.mean([scores.mean() for scores in filled]))
    return Interval(value, min(value, float(low)), max(value, float(high)))


def compare_paired(a: Mapping[str, float], b: Mapping[str, float], resamples: int = 2000, seed: int = 0) -> PairedComparison:
    """Compares per-prompt scores of two models on the prompts that both have. Raises ValueError when they share none."""
    shared = sorted(a.keys() & b.keys())
    if not shared:
        raise ValueError("the two models were scored on no common prompt")
    first, second = (np.array([scores[key] for key in shared]) for scores in (a, b))
    differences = first - second
    means = resampled_means(differences, resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    wins = float((differences > 0).mean() + 0.5 * (differences == 0).mean())
    better = float((means > 0).mean() + 0.5 * (means == 0).mean())
    return PairedComparison(Interval(float(differences.mean()), float(low), float(high)), wins, better, len(shared))
