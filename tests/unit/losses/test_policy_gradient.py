"""Advantages, clipped gains and the KL estimator against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from imagewright.losses.policy_gradient import STD_FLOOR, group_advantages, grpo_losses

MASK = torch.tensor([[True, True, False]])


def test_advantages_are_standard_scores_inside_a_group() -> None:
    found = group_advantages(torch.tensor([[0.0, 1.0], [3.0, 3.0]]))
    half = 0.5 / (math.sqrt(0.5) + STD_FLOOR)
    torch.testing.assert_close(found, torch.tensor([[-half, half], [0.0, 0.0]]))


@pytest.mark.parametrize(("advantage", "gain"), [(2.0, 1.2 * 2.0), (-2.0, 1.5 * -2.0)])
def test_a_ratio_beyond_the_clip_counts_only_where_it_hurts(advantage: float, gain: float) -> None:
    new = torch.log(torch.tensor([[1.5, 1.5, 9.0]]))
    losses, _ = grpo_losses(new, torch.zeros(1, 3), new, torch.tensor([advantage]), MASK, 0.2, 0.0)
    torch.testing.assert_close(losses, torch.tensor([-gain]))


def test_divergence_from_the_reference_is_paid_for() -> None:
    new, reference = torch.log(torch.tensor([[0.5, 0.25, 0.9]])), torch.log(torch.tensor([[0.25, 0.25, 0.1]]))
    losses, divergence = grpo_losses(new, new, reference, torch.zeros(1), MASK, 0.2, 0.04)
    expected = (0.5 - math.log(0.5) - 1) / 2
    torch.testing.assert_close(divergence, torch.tensor([expected]))
    torch.testing.assert_close(losses, torch.tensor([0.04 * expected]))


def test_on_its_own_samples_the_gradient_is_the_policy_gradient() -> None:
    logits = torch.tensor([[0.3, -0.2, 0.1]], requires_grad=True)
    taken = logits.log_softmax(1)[:, :1]
    losses, _ = grpo_losses(taken, taken.detach(), taken.detach(), torch.tensor([1.7]), torch.ones(1, 1, dtype=torch.bool), 0.2, 0.0)
    losses.sum().backward()
    chance = logits.detach().softmax(1)
    expected = -1.7 * (torch.tensor([[1.0, 0.0, 0.0]]) - chance)
    torch.testing.assert_close(logits.grad, expected)
