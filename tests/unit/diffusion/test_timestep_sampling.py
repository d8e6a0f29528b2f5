"""The law of training noise levels."""

from __future__ import annotations

import math

import pytest
import torch

from imagewright.config.timesteps import TimestepConfig
from imagewright.diffusion.timestep_sampling import resolution_shift, sample_sigmas, shift_for, shift_sigma


def draw(config: TimestepConfig, tokens: int = 256, count: int = 20_000) -> torch.Tensor:
    return sample_sigmas([tokens] * count, config, torch.Generator().manual_seed(0))


def test_shift_by_hand_keeps_the_ends() -> None:
    torch.testing.assert_close(
        shift_sigma(torch.tensor([0.0, 0.125, 0.5, 1.0]), 4.0), torch.tensor([0.0, 0.36364, 0.8, 1.0]), atol=1e-5, rtol=0
    )
    assert torch.equal(shift_sigma(torch.tensor([0.3]), 1.0), torch.tensor([0.3]))


def test_resolution_shift_runs_through_its_two_points() -> None:
    config = TimestepConfig()
    assert resolution_shift(256, config) == pytest.approx(math.exp(0.5))
    assert resolution_shift(4096, config) == pytest.approx(math.exp(1.15))
    assert resolution_shift(2176, config) == pytest.approx(math.exp(0.825))


def test_static_rule_gives_every_size_the_same_shift() -> None:
    config = TimestepConfig(shift_rule="static", shift=3.0)
    assert shift_for(16, config) == shift_for(4096, config) == 3.0


def test_logit_normal_has_its_median_at_one_half_and_its_spread() -> None:
    sigmas = draw(TimestepConfig(shift_rule="static"))
    logits = torch.logit(sigmas)
    assert sigmas.median().item() == pytest.approx(0.5, abs=0.01)
    assert logits.std().item() == pytest.approx(1.0, abs=0.02)
    assert sigmas.min() > 0 and sigmas.max() < 1


def test_a_larger_image_is_trained_at_more_noise() -> None:
    config = TimestepConfig()
    small, large = draw(config, 256).median(), draw(config, 4096).median()
    assert small.item() == pytest.approx(math.exp(0.5) / (1 + math.exp(0.5)), abs=0.01)
    assert large.item() == pytest.approx(math.exp(1.15) / (1 + math.exp(1.15)), abs=0.01)


def test_uniform_law_is_flat() -> None:
    sigmas = draw(TimestepConfig(distribution="uniform", shift_rule="static"))
    counts = torch.histc(sigmas, bins=4, min=0, max=1)
    assert counts.min() > 0.24 * len(sigmas)


def test_the_same_generator_gives_the_same_levels() -> None:
    assert torch.equal(draw(TimestepConfig(), count=8), draw(TimestepConfig(), count=8))
