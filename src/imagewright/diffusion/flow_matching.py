"""Flow matching in the rectified-flow convention: x_t = (1 - sigma) x0 + sigma eps, velocity v = eps - x0, timestep = 1000 sigma.

Source: Lipman et al. 2210.02747, Liu et al. 2209.03003. Pure functions; `sigma` broadcasts against the latents.
"""

from __future__ import annotations

from torch import Tensor

TIMESTEP_SCALE = 1000.0


def timestep_of(sigma: Tensor) -> Tensor:
    """Network timestep of a noise level: 0..1 -> 0..1000, same shape."""
    return sigma * TIMESTEP_SCALE


def add_noise(x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """x_t = (1 - sigma) x0 + sigma noise; all shapes broadcast, [N, C] with [N, 1] in a pack."""
    return (1.0 - sigma) * x0 + sigma * noise


def velocity_target(x0: Tensor, noise: Tensor) -> Tensor:
    """v = noise - x0, the derivative of x_t by sigma."""
    return noise - x0


def recover_x0(x_t: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
    """x0 = x_t - sigma v."""
    return x_t - sigma * velocity


def recover_noise(x_t: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
    """noise = x_t + (1 - sigma) v."""
    return x_t + (1.0 - sigma) * velocity


def euler_step(x_t: Tensor, velocity: Tensor, sigma: Tensor | float, next_sigma: Tensor | float) -> Tensor:
    """x + (next_sigma - sigma) v: one Euler step along the flow."""
    return x_t + (next_sigma - sigma) * velocity
