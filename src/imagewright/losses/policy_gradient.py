"""Group-relative policy optimisation: how the prompt enhancer learns from rewards of its own samples.

Pure. Source: DeepSeekMath, 2402.03300, equations 3 and 4 (one outcome reward a sample; Schulman's estimator of the KL divergence).
"""

from __future__ import annotations

import torch
from torch import Tensor

STD_FLOOR = 1e-4


def group_advantages(rewards: Tensor) -> Tensor:
    """(r - mean) / (std + 1e-4) inside every group; [G, n] -> [G, n]. A group of equal rewards teaches nothing."""
    assert rewards.shape[1] > 1, "a group of one has no mean to beat"
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return centred / (rewards.std(dim=1, keepdim=True) + STD_FLOOR)


def grpo_losses(
    log_probs: Tensor, old_log_probs: Tensor, reference_log_probs: Tensor, advantages: Tensor, mask: Tensor, clip: float, kl_weight: float
) -> tuple[Tensor, Tensor]:
    """Per sample, the mean over its tokens of -min(p A, clip(p) A) + kl_weight KL, with p = exp(log_probs - old_log_probs).

    log_probs, old_log_probs, reference_log_probs, mask (True on the sample's own tokens): [B, T]; advantages: [B].
    Returns ([B] losses, [B] KL to the reference). KL is exp(d) - d - 1 with d = reference - current: unbiased and never negative.
    """
    ratio = (log_probs - old_log_probs).exp()
    gain = torch.minimum(ratio * advantages[:, None], ratio.clamp(1 - clip, 1 + clip) * advantages[:, None])
    difference = reference_log_probs - log_probs
    divergence = difference.exp() - difference - 1
    counts = mask.sum(dim=1).clamp(min=1)
    losses = ((kl_weight * divergence - gain) * mask).sum(dim=1) / counts
    return losses, (divergence * mask).sum(dim=1) / counts
