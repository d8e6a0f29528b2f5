"""Distribution matching against hand-worked numbers and its own identities."""

from __future__ import annotations

import pytest
import torch

from imagewright.losses.distribution_matching import (
    distribution_matching_gradient,
    dynamic_guidance,
    generator_loss,
    guidance_augmentation_gradient,
    normaliser,
    renoise_concentrations,
    sample_renoise_level,
)


def draw(seed: int) -> torch.Tensor:
    return torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_dm_gradient_is_zero_exactly_when_fake_equals_real() -> None:
    real = draw(0)
    assert distribution_matching_gradient(real, real.clone()).abs().max() == 0
    assert distribution_matching_gradient(real, draw(1)).abs().max() > 0


@pytest.mark.parametrize(("scale", "same", "zero"), [(1.0, False, True), (4.0, True, True), (4.0, False, False), (1.001, False, False)])
def test_the_ca_gradient_is_zero_iff_alpha_is_one_or_the_predictions_agree(scale: float, same: bool, zero: bool) -> None:
    cond = draw(0)
    gradient = guidance_augmentation_gradient(cond, cond.clone() if same else draw(1), scale)
    assert (gradient.abs().max() == 0).item() is zero


def test_with_one_renoise_level_dm_plus_ca_is_the_coupled_guided_gradient() -> None:
    cond, uncond, fake = draw(0), draw(1), draw(2)
    guided = uncond + 4.0 * (cond - uncond)
    decoupled = distribution_matching_gradient(cond, fake) + guidance_augmentation_gradient(cond, uncond, 4.0)
    torch.testing.assert_close(decoupled, fake - guided)


def test_the_generator_loss_pulls_along_the_gradient() -> None:
    sample, gradient = draw(0).requires_grad_(), draw(1)
    generator_loss(sample, gradient).sum().backward()
    torch.testing.assert_close(sample.grad, gradient / (4 * 3 * 3))


def test_the_normaliser_is_the_mean_distance_of_each_sample() -> None:
    sample = torch.zeros(2, 1, 2, 2)
    real = torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1).expand(2, 1, 2, 2)
    assert normaliser(sample, real).flatten().tolist() == [1.0, 3.0]
    assert normaliser(sample, sample).min() > 0  # no division by zero when the student is already right


@pytest.mark.parametrize(("step", "value"), [(0, 2.0), (50, 1.0), (100, 0.0), (250, 0.0)])
def test_dynamic_guidance_falls_by_cosine_to_zero(step: int, value: float) -> None:
    assert dynamic_guidance(step, 2.0, 100) == pytest.approx(value)


def test_renoise_levels_move_from_noisy_to_uniform() -> None:
    assert renoise_concentrations(0, 100) == (4.0, 1.5)
    assert renoise_concentrations(100, 100) == pytest.approx((1.0, 1.0))
    generator = torch.Generator().manual_seed(0)
    for step, mean in ((0, 4.0 / 5.5), (100, 0.5)):
        levels = [sample_renoise_level(renoise_concentrations(step, 100), 0.0, 1.0, generator) for _ in range(3000)]
        assert sum(levels) / len(levels) == pytest.approx(mean, abs=0.02)
        assert 0.0 <= min(levels) <= max(levels) <= 1.0


def test_renoise_levels_stay_in_their_band_and_follow_the_seed() -> None:
    first = [sample_renoise_level((1.0, 1.0), 0.2, 0.6, torch.Generator().manual_seed(seed)) for seed in range(200)]
    assert 0.2 <= min(first) <= max(first) <= 0.6
    assert first == [sample_renoise_level((1.0, 1.0), 0.2, 0.6, torch.Generator().manual_seed(seed)) for seed in range(200)]


def test_on_a_gaussian_one_step_moves_toward_the_teacher() -> None:
    # Teacher N(2, 1), student N(0, 1): at noise level sigma the posterior means of x0 differ, and the step goes from 0 toward 2.
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(4096, 1, 1, 1, generator=generator).requires_grad_()
    sigma = 0.5
    noisy = (1 - sigma) * sample.detach() + sigma * torch.randn(4096, 1, 1, 1, generator=generator)

    def posterior_mean(mean: float) -> torch.Tensor:
        gain = (1 - sigma) / ((1 - sigma) ** 2 + sigma**2)
        return mean + gain * (noisy - (1 - sigma) * mean)

    generator_loss(sample, distribution_matching_gradient(posterior_mean(2.0), posterior_mean(0.0))).sum().backward()
    assert sample.grad is not None
    assert (sample.detach() - sample.grad).mean() > sample.detach().mean() + 0.5
