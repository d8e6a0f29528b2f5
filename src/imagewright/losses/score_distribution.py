"""Scores as a distribution over 101 bins, 0 to 100: what the aesthetic model predicts, how it is trained and how it is read.

Pure functions. Source: Token-As-Score of ArtiMuse (arXiv 2507.14533), which ERNIE-Image-Aes is initialised from; the softening is ours.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

NUM_BINS = 101
MAX_SCORE = 100.0


def bin_centres(like: Tensor) -> Tensor:
    """Scores the bins stand for, 0, 1, ..., 100 [101] float32, on the device of `like`."""
    return torch.arange(NUM_BINS, dtype=torch.float32, device=like.device)


def soft_bins(scores: Tensor, width: float) -> Tensor:
    """Target distribution of scores [N] in 0..100 -> [N, 101]: p_i proportional to exp(-(i - score)^2 / (2 width^2)).

    width 0 shares a score between its two neighbours (13.25 -> 0.75 at 13, 0.25 at 14), so its expectation is the score itself.
    """
    distance = bin_centres(scores)[None, :] - scores.float()[:, None]
    if width == 0:
        return (1 - distance.abs()).clamp_min(0)
    return torch.softmax(-0.5 * (distance / width).square(), dim=-1)


def score_distribution_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """-sum_i p_i log softmax(logits)_i, mean over samples; logits and targets [N, 101] -> scalar.

    In fp32: 101 log-probabilities in bfloat16 lose the tail that the expectation is read from.
    """
    return -(targets.float() * F.log_softmax(logits.float(), dim=-1)).sum(dim=-1).mean()


def expected_score(logits: Tensor) -> Tensor:
    """sum_i i softmax(logits)_i of logits [N, 101] -> [N] in 0..100; uniform logits give 50, a certain bin i gives i."""
    return torch.softmax(logits.float(), dim=-1) @ bin_centres(logits)
