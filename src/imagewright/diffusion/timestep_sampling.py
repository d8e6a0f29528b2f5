"""Noise levels for training: a base law on (0, 1), then a shift that grows with the image's token count.

Sources: logit-normal law, Esser et al. 2403.03206 section 3.1; shift linear in tokens, the Flux scheduler's rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from imagewright.config.timesteps import TimestepConfig


def shift_sigma(sigma: Tensor, shift: Tensor | float) -> Tensor:
    """s sigma / (1 + (s - 1) sigma): moves noise levels up for s > 1, keeps 0 and 1 (2403.03206, equation 23)."""
    return shift * sigma / (1.0 + (shift - 1.0) * sigma)


def resolution_shift(num_tokens: int, config: TimestepConfig) -> float:
    """e^mu, mu on the line through (min_tokens, min_mu) and (max_tokens, max_mu); outside the range the line goes on."""
    slope = (config.max_mu - config.min_mu) / (config.max_tokens - config.min_tokens)
    return math.exp(config.min_mu + slope * (num_tokens - config.min_tokens))


def shift_for(num_tokens: int, config: TimestepConfig) -> float:
    """The shift that `config` gives an image of `num_tokens` tokens."""
    return config.shift if config.shift_rule == "static" else resolution_shift(num_tokens, config)


def sample_sigmas(num_tokens: Sequence[int], config: TimestepConfig, generator: torch.Generator) -> Tensor:
    """One noise level per image, [B] fp32 in (0, 1), drawn on the CPU so that the device does not change the draw."""
    return sigmas_of(draw_base(len(num_tokens), config, generator), num_tokens, config)


def draw_base(count: int, config: TimestepConfig, generator: torch.Generator) -> Tensor:
    """The random numbers behind `count` noise levels, [count]: uniform in 0..1 or standard normal, as the law needs."""
    if config.distribution == "uniform":
        return torch.rand(count, generator=generator)
    return torch.randn(count, generator=generator)


def sigmas_of(base: Tensor, num_tokens: Sequence[int], config: TimestepConfig) -> Tensor:
    """Noise levels [B] fp32 from their random numbers [B]: the base law, then each image's shift.

    The sigmoid is taken number by number: a vectorised one rounds by the place in the tensor, and a sample's level must not depend on
    the pack it comes in.
    """
    levels = base.double()
    if config.distribution != "uniform":
        levels = torch.tensor([sigmoid(config.mean + config.std * value) for value in base.tolist()], dtype=torch.float64)
    shifts = torch.tensor([shift_for(tokens, config) for tokens in num_tokens], dtype=torch.float64)
    return shift_sigma(levels, shifts).float()


def sigmoid(value: float) -> float:
    """1 / (1 + e^-value), in a form that cannot overflow."""
    return 0.5 * (1.0 + math.tanh(0.5 * value))
