"""How well scores agree with ratings: Spearman and Pearson correlation with bootstrap intervals.

Shared by the aesthetic model's own figures, its benchmark and every report that compares a scorer with people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from imagewright.errors import InputError, Problem

MIN_SAMPLES = 3
RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95% interval (percentile bootstrap over samples)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Agreement:
    """SRCC and PLCC of scores with ratings over `num` samples."""

    srcc: Estimate
    plcc: Estimate
    num: int

    def to_dict(self) -> dict[str, object]:
        """As JSON values."""
        return asdict(self)


def correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Pearson correlation of two vectors [n]; 0 where one of them is constant, since it orders nothing."""
    a, b = first - first.mean(), second - second.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 1e-12 else 0.0


def spearman(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Rank correlation with mean ranks for ties."""
    return correlation(rankdata(first).astype(np.float64), rankdata(second).astype(np.float64))


def checked(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Values as float64 [n]. Raises InputError when one is not finite or there are fewer than 3."""
    array = np.asarray(values, dtype=np.float64).ravel()
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise InputError(Problem(name, "must be finite numbers", f"{bad} of {len(array)} are not", "find the images that gave them"))
    if len(array) < MIN_SAMPLES:
        raise InputError(Problem(name, f"needs at least {MIN_SAMPLES} values", len(array), "rate more images"))
    return array


def agreement(scores: ArrayLike, ratings: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Agreement:
    """Agreement of scores [n] with ratings [n]. Constant scores have correlation 0.

    Raises InputError for values that are not finite, fewer than 3 samples, unequal lengths and constant ratings.
    """
    x, y = checked("scores", scores), checked("ratings", ratings)
    if len(x) != len(y):
        raise InputError(Problem("scores", f"must be as many as the {len(y)} ratings", len(x), "score every rated image once"))
    if np.ptp(y) == 0:
        raise InputError(Problem("ratings", "must not all be the same", float(y[0]), "constant ratings order nothing; collect votes"))
    rng = np.random.default_rng(seed)
    draws: list[tuple[float, float]] = []
    for _ in range(resamples):
        chosen = rng.integers(0, len(x), len(x))
        draws.append((spearman(x[chosen], y[chosen]), correlation(x[chosen], y[chosen])))
    low, high = np.percentile(np.asarray(draws), [2.5, 97.5], axis=0)
    return Agreement(
        Estimate(spearman(x, y), float(low[0]), float(high[0])), Estimate(correlation(x, y), float(low[1]), float(high[1])), len(x)
    )


def pair_accuracy(scores: ArrayLike, pairs: Sequence[tuple[int, int]]) -> float:
    """Share of (winner, loser) index pairs that the scores order the same way; ties count half."""
    x = checked("scores", scores)
    signs = [float(np.sign(x[winner] - x[loser])) for winner, loser in pairs]
    return 0.5 + 0.5 * float(np.mean(signs))
