"""The stabilised DPO loss against numbers worked out by hand and against its own formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from imagewright.losses.dpo import DPOLoss, Reduction, stabilised_dpo_loss

BETA, WIN, LOSE = 0.05, 0.35, 0.15


def loss(
    policy: tuple[Tensor, Tensor], reference: tuple[Tensor, Tensor], dpo: Reduction = "sum", anchors: Reduction = "mean", elements: int = 64
) -> DPOLoss:
    counts = torch.full_like(policy[0], elements).detach()
    return stabilised_dpo_loss(
        policy, reference, counts, beta=BETA, lambda_win=WIN, lambda_lose=LOSE, dpo_reduction=dpo, anchor_reduction=anchors
    )


def errors(chosen: float, rejected: float) -> tuple[Tensor, Tensor]:
    return torch.tensor([chosen], dtype=torch.float64, requires_grad=True), torch.tensor(
        [rejected], dtype=torch.float64, requires_grad=True
    )


def test_at_policy_equal_to_reference_the_preference_is_ln_2() -> None:
    result = loss(errors(0.4, 0.9), errors(0.4, 0.9))
    assert result.preference.item() == pytest.approx(math.log(2))
    assert result.total.item() - math.log(2) == pytest.approx(WIN * 0.4 + LOSE * 0.9)
    assert result.margin.item() == 0.0
    assert result.implicit_accuracy.item() == 0.5


def test_swapping_the_pair_flips_the_sign_of_the_margin() -> None:
    forward = loss(errors(0.3, 0.9), errors(0.4, 0.8))
    swapped = loss(errors(0.9, 0.3), errors(0.8, 0.4))
    assert forward.margin.item() == pytest.approx(64 * 0.2)
    assert swapped.margin.item() == pytest.approx(-forward.margin.item())
    assert (forward.implicit_accuracy.item(), swapped.implicit_accuracy.item()) == (1.0, 0.0)


def test_gradients_are_those_of_the_formula() -> None:
    policy, reference = errors(0.31, 0.87), errors(0.35, 0.84)
    result = loss(policy, reference)
    result.total.sum().backward()
    weight = 64 * BETA * torch.sigmoid(-BETA * result.margin).item()
    assert policy[0].grad is not None
    assert policy[1].grad is not None
    assert policy[0].grad.item() == pytest.approx(weight + WIN)
    assert policy[1].grad.item() == pytest.approx(-weight + LOSE)


@pytest.mark.parametrize(("dpo", "anchors", "rises"), [("sum", "mean", True), ("mean", "mean", False), ("sum", "sum", False)])
def test_only_a_summed_preference_lets_the_rejected_error_rise(dpo: Reduction, anchors: Reduction, rises: bool) -> None:
    policy = errors(0.4, 0.9)
    loss(policy, errors(0.4, 0.9), dpo, anchors).total.sum().backward()
    assert policy[1].grad is not None
    assert (policy[1].grad.item() < 0) is rises  # descent raises an error whose gradient is negative


def test_the_sum_needs_enough_elements_to_beat_the_anchor() -> None:
    at = LOSE / (BETA * 0.5)  # 6 elements: beta s N = lambda_lose
    for elements, rises in ((int(at) - 1, False), (int(at) + 1, True)):
        policy = errors(0.4, 0.9)
        loss(policy, errors(0.4, 0.9), elements=elements).total.sum().backward()
        assert policy[1].grad is not None
        assert (policy[1].grad.item() < 0) is rises


def test_the_reference_gets_no_gradient() -> None:
    reference = errors(0.4, 0.9)
    loss(errors(0.3, 0.8), reference).total.sum().backward()
    assert reference[0].grad is None


def test_huge_margins_stay_finite() -> None:
    assert torch.isfinite(loss(errors(1e6, 0.0), errors(0.0, 1e6)).total).all()
