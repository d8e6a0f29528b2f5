"""Fixed filters: what they answer to, worked out by hand, and that nothing but the picture decides."""

from __future__ import annotations

import numpy as np
import torch

from imagewright.models.filter_statistics import NUM_FEATURES, cosine_filters, filter_statistics, response_statistics


def test_filters_are_orthonormal_and_blind_to_even_areas() -> None:
    filters = cosine_filters().flatten(1)
    assert torch.allclose(filters @ filters.T, torch.eye(15), atol=1e-6)
    assert torch.allclose(filters.sum(dim=1), torch.zeros(15), atol=1e-6)


def test_statistics_of_a_response_are_those_worked_out_by_hand() -> None:
    found = response_statistics(torch.tensor([[[[3.0, -4.0], [0.0, 0.0]]]]))
    calm = (np.exp(-1) + np.exp(-4 / 3) + 2) / 4
    assert np.allclose(found.numpy(), [[7 / 4, (25 / 4) ** 0.5, 4.0, calm]], atol=1e-6)


def test_an_even_picture_answers_nowhere() -> None:
    features = filter_statistics(np.full((2, 16, 16, 3), 128, dtype=np.uint8))
    assert features.shape == (2, NUM_FEATURES) and features.dtype == np.float32
    responses = features[0, 12:].reshape(2, 4, 45)  # scale, statistic, colour and filter
    assert np.allclose(responses[:, :3], 0, atol=1e-2)
    assert np.allclose(responses[:, 3], np.log(2), atol=1e-3)


def test_a_mirrored_picture_has_the_same_features_and_a_batch_changes_none() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    features = filter_statistics(images)
    assert np.allclose(filter_statistics(images[:, :, ::-1]), features, atol=1e-4)
    assert np.allclose(filter_statistics(images[1:2]), features[1:2], atol=1e-4)
    assert filter_statistics(images[:0]).shape == (0, NUM_FEATURES)


def test_noise_leaves_fewer_calm_places() -> None:
    rng = np.random.default_rng(0)
    clean = np.full((32, 32, 3), 128, dtype=np.uint8)
    noisy = (clean + rng.normal(0, 20, clean.shape)).clip(0, 255).astype(np.uint8)
    calm = filter_statistics(np.stack([clean, noisy]))[:, 12 + 3 * 45 : 12 + 4 * 45]
    assert (calm[1] < 0.5 * calm[0]).all()
