"""Distances between sets of images, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from imagewright.config.evaluation import EvaluationConfig
from imagewright.evaluation.distribution import (
    EffLite3,
    compare_distributions,
    covered,
    distribution_measure,
    frechet_distance,
    frechet_interval,
)


def test_frechet_distance_of_gaussians_is_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(0, 1, (20_000, 3))
    second = rng.normal(1, 2, (20_000, 3))
    assert frechet_distance(first, second) == pytest.approx(3 * 1 + 3 * (2 - 1) ** 2, rel=0.05)


def test_frechet_distance_of_a_set_to_itself_is_zero_even_with_few_samples() -> None:
    features = np.random.default_rng(0).normal(size=(10, 50))
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)


def test_precision_and_recall_tell_missing_modes_from_wrong_pictures() -> None:
    rng = np.random.default_rng(0)
    near, far = rng.normal(0, 1, (200, 2)), rng.normal(50, 1, (200, 2))
    real = np.concatenate([near, far])
    assert covered(near, real).mean() > 0.9  # precision: everything generated looks real
    assert covered(real, near).mean() < 0.6  # recall: half of what is real is never generated


def test_scores_carry_the_name_of_the_feature_network() -> None:
    rng = np.random.default_rng(0)
    flat = np.repeat(rng.integers(0, 255, (6, 1, 1, 3), dtype=np.uint8), 32, axis=1).repeat(32, axis=2)
    noise = rng.integers(0, 255, (6, 32, 32, 3), dtype=np.uint8)
    features = EffLite3()
    measured = {score.task: score for score in compare_distributions(features(flat), features(noise), copies=2, resamples=100)}
    assert set(measured) == {"fd_EffLite3", "precision_EffLite3", "recall_EffLite3"}
    assert measured["fd_EffLite3"].value > 0
    assert all(score.low <= score.value <= score.high for score in measured.values())
    assert {(score.num_prompts, score.num_images) for score in measured.values()} == {(3, 6)}


def test_the_interval_of_a_distance_covers_what_other_samples_give() -> None:
    def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        return rng.normal(0, 1, (150, 4)), rng.normal(0.7, 1, (150, 4))

    interval = frechet_interval(*drawn(0), copies=1, resamples=200)
    others = [frechet_distance(*drawn(seed)) for seed in range(1, 41)]
    assert 0 < interval.low < interval.value < interval.high
    # Two independent samples differ by sqrt(2) standard errors, so the interval holds about 83% of them.
    assert sum(interval.low <= other <= interval.high for other in others) >= 25
    assert interval.high - interval.low < 3 * (max(others) - min(others))


def test_images_of_one_prompt_do_not_count_as_independent() -> None:
    rng = np.random.default_rng(0)
    real, prompts = rng.normal(0, 1, (100, 3)), rng.normal(0.5, 1, (25, 3))
    same = np.repeat(prompts, 4, axis=0)
    apart, together = frechet_interval(real, same, 1, 100), frechet_interval(real, same, 4, 100)
    assert together.value == apart.value
    assert together.high - together.low > 1.2 * (apart.high - apart.low)


def test_a_limit_on_images_keeps_prompts_from_every_task() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (24, 16, 16, 3), dtype=np.uint8)
    measure = distribution_measure(EvaluationConfig(distribution_images=8, images_per_prompt=2, bootstrap_resamples=100), images)
    same_start = np.concatenate([images[:12], np.zeros_like(images[12:])])
    first, other = measure(images)[0], measure(same_start)[0]
    assert (first.num_prompts, first.num_images) == (4, 8)
    assert first.value != other.value  # prompts of the second half are measured too
    assert distribution_measure(EvaluationConfig(), images)(images) == []
