"""Intervals and paired comparisons with answers known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from imagewright.evaluation.statistics import bootstrap, bootstrap_groups, compare_paired


def test_equal_scores_have_a_point_for_an_interval() -> None:
    interval = bootstrap([0.3] * 9)
    assert interval.low <= interval.value <= interval.high
    assert (interval.low, interval.high) == pytest.approx((0.3, 0.3))


def test_interval_of_a_coin_is_the_binomial_one() -> None:
    interval = bootstrap([0.0, 1.0] * 50, resamples=20_000)
    assert interval.value == 0.5
    assert (interval.low, interval.high) == pytest.approx((0.40, 0.60), abs=0.02)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        interval = bootstrap(rng.binomial(4, 0.7, 60) / 4, resamples=400, seed=trial)
        hits += interval.low <= 0.7 <= interval.high
    assert 0.89 <= hits / 200 <= 0.99


def test_overall_weighs_tasks_not_prompts() -> None:
    assert bootstrap_groups({"a": [1.0] * 30, "b": [0.0] * 2}).value == 0.5


def test_same_seed_gives_the_same_interval() -> None:
    scores = [0.0, 0.5, 1.0, 1.0, 0.25]
    assert bootstrap(scores, seed=3) == bootstrap(scores, seed=3)


def test_paired_comparison_sees_a_small_steady_gain_that_separate_intervals_hide() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(100)
    a = {f"p{i}": float(value * 0.9 + 0.05) for i, value in enumerate(hard)}
    b = {f"p{i}": float(value * 0.9) for i, value in enumerate(hard)}
    comparison = compare_paired(a, b)
    assert comparison.difference.low > 0
    assert comparison.win_rate == 1.0
    assert comparison.probability_better == 1.0


def test_a_model_against_itself_wins_half() -> None:
    scores = {"a": 1.0, "b": 0.0, "c": 0.5}
    comparison = compare_paired(scores, scores)
    assert (comparison.win_rate, comparison.probability_better, comparison.num_prompts) == (0.5, 0.5, 3)


def test_models_without_a_common_prompt_are_not_compared() -> None:
    with pytest.raises(ValueError, match="no common prompt"):
        compare_paired({"a": 1.0}, {"b": 1.0})
