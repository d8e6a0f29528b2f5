"""The flow-matching objective: squared error of the velocity, one number per sample."""

from __future__ import annotations

from torch import Tensor

from imagewright.models.packing import Pack


def velocity_loss(velocity: Tensor, target: Tensor, pack: Pack) -> Tensor:
    """Mean over tokens and channels of (velocity - target)^2, per sample: [N, C], [N, C] -> [B].

    A mean per sample lets a small image weigh as much as a large one. In fp32: bf16 keeps 8 bits, a mean over 500,000 values needs more.
    Source: Lipman et al. 2210.02747, equation 23 (conditional flow matching).
    """
    return pack.mean_per_sample((velocity.float() - target.float()).square())


def mean_over_samples(losses: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of per-sample losses [B] with weights [B] (1, or 0 for a stand-in); 0 when nothing counts, still with a gradient."""
    return (losses * weights).sum() / weights.sum().clamp(min=1.0)
