"""Agreement figures against numbers worked out by hand, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from imagewright.errors import InputError
from imagewright.evaluation.rank_statistics import agreement, pair_accuracy, spearman


def test_known_orders_have_known_correlations() -> None:
    found = agreement([1, 2, 3, 4, 5], [2, 1, 4, 3, 5])
    assert found.srcc.value == pytest.approx(0.8)
    assert found.plcc.value == pytest.approx(0.8)
    assert found.srcc.low <= 0.8 <= found.srcc.high


def test_a_curve_that_rises_is_perfect_in_rank_only() -> None:
    found = agreement([1, 10, 100, 1000], [1, 2, 3, 4])
    assert found.srcc.value == pytest.approx(1.0) and found.plcc.value < 0.9


def test_scorer_that_gives_every_image_the_same_orders_nothing() -> None:
    assert agreement([5, 5, 5, 5], [1, 2, 3, 4]).srcc.value == 0.0


def test_ties_count_half_a_rank() -> None:
    assert spearman(np.array([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(0.8660254)


def test_interval_narrows_with_more_samples() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=2000)
    scores = truth + rng.normal(size=2000)
    few, many = agreement(scores[:50], truth[:50]), agreement(scores, truth)
    assert many.srcc.high - many.srcc.low < few.srcc.high - few.srcc.low


@pytest.mark.parametrize(
    ("scores", "ratings", "message"),
    [
        ([1, 2, 3], [4, 4, 4], "ratings: must not all be the same"),
        ([1, float("nan"), 3], [1, 2, 3], "scores: must be finite"),
        ([1, 2], [1, 2], "at least 3"),
        ([1, 2, 3], [1, 2, 3, 4], "as many as the 4"),
    ],
)
def test_figures_without_meaning_are_refused(scores: list[float], ratings: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        agreement(scores, ratings)


def test_pairs_ordered_rightly_are_counted_and_ties_are_half() -> None:
    assert pair_accuracy([3, 2, 1, 1], [(0, 1), (2, 1), (2, 3), (1, 3)]) == pytest.approx((1 + 0 + 0.5 + 1) / 4)
