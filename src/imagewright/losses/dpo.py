"""Stabilised direct preference optimisation for flow matching (ERNIE-Image report, section on DPO; after Diffusion-DPO, arXiv 2311.12908).

Pure functions of per-sample velocity errors. The reduction is explicit because it decides what the loss does: with the same
reduction in the preference term and the anchors, beta * sigmoid <= 0.05 is below lambda_lose = 0.15, so the rejected error is
always pushed down and the preference is lost. `sum` for the preference term and `mean` for the anchors keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Reduction = Literal["sum", "mean"]


@dataclass(frozen=True)
class DPOLoss:
    """The stabilised loss and what health metrics need, all per pair [B]."""

    total: Tensor
    preference: Tensor
    margin: Tensor
    """-(Diff_policy - Diff_ref): positive where the policy prefers the chosen sample more than the reference does."""
    chosen_error: Tensor
    rejected_error: Tensor
    """Velocity errors of the policy under the anchors' reduction."""

    @property
    def implicit_accuracy(self) -> Tensor:
        """1 where the policy prefers the chosen sample more than the reference does, 0.5 for ties [B]."""
        return (self.margin > 0).float() + 0.5 * (self.margin == 0).float()


def preference_loss(chosen: Tensor, rejected: Tensor, chosen_ref: Tensor, rejected_ref: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """-log sigmoid(-beta (Diff_policy - Diff_ref)) and the margin -(Diff_policy - Diff_ref), from errors [B] -> [B], [B]."""
    margin = (chosen_ref - rejected_ref) - (chosen - rejected)
    return -F.logsigmoid(beta * margin), margin


def stabilised_dpo_loss(
    policy: tuple[Tensor, Tensor],
    reference: tuple[Tensor, Tensor],
    num_elements: Tensor,
    *,
    beta: float,
    lambda_win: float,
    lambda_lose: float,
    dpo_reduction: Reduction = "sum",
    anchor_reduction: Reduction = "mean",
) -> DPOLoss:
    """L = -log sigmoid(-beta (Diff_policy - Diff_ref)) + lambda_win l_win + lambda_lose l_lose, per pair.

    policy, reference: (chosen, rejected) mean squared velocity errors [B], taken with the same noise and timestep for both members.
    num_elements: latent elements of each pair's samples [B]; `sum` is mean times this. Both members have the same size.
    """
    chosen, rejected = policy
    chosen_ref, rejected_ref = (error.detach() for error in reference)
    scale = num_elements.to(chosen.dtype) if dpo_reduction == "sum" else torch.ones_like(chosen)
    preference, margin = preference_loss(chosen * scale, rejected * scale, chosen_ref * scale, rejected_ref * scale, beta)
    anchor_scale = num_elements.to(chosen.dtype) if anchor_reduction == "sum" else torch.ones_like(chosen)
    total = preference + anchor_scale * (lambda_win * chosen + lambda_lose * rejected)
    return DPOLoss(total, preference, margin, chosen * anchor_scale, rejected * anchor_scale)
