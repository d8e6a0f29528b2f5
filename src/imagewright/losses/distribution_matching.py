"""Distribution-matching distillation: decoupled gradients, the fake score's loss, dynamic guidance and renoise schedules.

Sources: DMD (arXiv 2311.18828), DMD2 (2405.14867), Decoupled DMD (2511.22677), DMDR (2511.13649). All functions work on clean-sample
predictions x0 = x_t - sigma v of one sample [C, h, w] or a stack [B, C, h, w]; gradients are normalised per sample.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

EPSILON = 1e-8


def distribution_matching_gradient(real_cond: Tensor, fake_cond: Tensor) -> Tensor:
    """DM: direction from the real to the fake clean prediction at the DM noise level; zero when they agree. Same shape as its inputs."""
    return fake_cond - real_cond


def guidance_augmentation_gradient(real_cond: Tensor, real_uncond: Tensor, guidance_scale: float) -> Tensor:
    """CA: -(alpha - 1)(real_cond - real_uncond) at the CA noise level; zero iff alpha = 1 or both predictions agree."""
    return -(guidance_scale - 1.0) * (real_cond - real_uncond)


def normaliser(sample: Tensor, real: Tensor) -> Tensor:
    """mean |x - real| of each sample [..., C, h, w] -> [..., 1, 1, 1]: makes the step independent of the noise level (DMD, equation 8)."""
    return (sample - real).abs().mean(dim=(-3, -2, -1), keepdim=True).clamp_min(EPSILON)


def generator_loss(sample: Tensor, gradient: Tensor) -> Tensor:
    """0.5 mean (x - stopgrad(x - gradient))^2 per sample [..., C, h, w] -> [...]: its derivative by x is gradient / (C h w)."""
    target = (sample - gradient).detach()
    return 0.5 * (sample.float() - target.float()).square().mean(dim=(-3, -2, -1))


def dynamic_guidance(step: int, initial: float, num_steps: int) -> float:
    """alpha_real(t) = initial / 2 (1 + cos(pi min(t, T) / T)): `initial` at step 0, half at T/2, 0 from T on (DMDR)."""
    if num_steps <= 0:
        return 0.0
    return 0.5 * initial * (1.0 + math.cos(math.pi * min(step, num_steps) / num_steps))


def renoise_concentrations(step: int, num_steps: int, initial: tuple[float, float] = (4.0, 1.5)) -> tuple[float, float]:
    """Parameters of the Beta distribution of DM noise levels: `initial` -> (1, 1), uniform, by cosine over `num_steps` (DMDR)."""
    weight = dynamic_guidance(step, 1.0, num_steps)
    return 1.0 + weight * (initial[0] - 1.0), 1.0 + weight * (initial[1] - 1.0)


def sample_renoise_level(concentrations: tuple[float, float], low: float, high: float, generator: torch.Generator) -> float:
    """One noise level sigma in [low, high], Beta-distributed, from `generator` alone."""
    first, second = concentrations
    # Two gamma draws make a beta draw; torch's own Beta takes no generator.
    draws = torch._standard_gamma(torch.tensor([first, second], dtype=torch.float64), generator=generator)
    share = float(draws[0] / draws.sum().clamp_min(EPSILON))
    return low + (high - low) * share
