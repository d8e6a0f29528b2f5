"""Distances between sets of images, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from imagewright.evaluation.distribution import EffLite3, compare_distributions, frechet_distance, precision_recall


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
    precision, recall = precision_recall(np.concatenate([near, far]), near)
    assert precision > 0.9
    assert recall < 0.6


def test_scores_carry_the_name_of_the_feature_network() -> None:
    rng = np.random.default_rng(0)
    flat = np.repeat(rng.integers(0, 255, (6, 1, 1, 3), dtype=np.uint8), 32, axis=1).repeat(32, axis=2)
    noise = rng.integers(0, 255, (6, 32, 32, 3), dtype=np.uint8)
    measured = compare_distributions(flat, noise, EffLite3())
    assert set(measured) == {"fd_EffLite3", "precision_EffLite3", "recall_EffLite3"}
    assert measured["fd_EffLite3"] > 0
