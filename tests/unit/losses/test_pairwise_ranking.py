"""The Bradley-Terry loss against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from imagewright.losses.pairwise_ranking import bradley_terry_loss


def test_equal_scores_cost_log_two() -> None:
    assert bradley_terry_loss(torch.tensor([40.0]), torch.tensor([40.0]), 10.0).item() == pytest.approx(math.log(2))


def test_one_scale_ahead_is_odds_of_e_to_one() -> None:
    loss = bradley_terry_loss(torch.tensor([60.0]), torch.tensor([50.0]), 10.0)
    assert loss.item() == pytest.approx(-math.log(math.e / (1 + math.e)), rel=1e-5)


def test_gradient_pushes_the_winner_up_and_the_loser_down() -> None:
    winner, loser = torch.tensor([50.0], requires_grad=True), torch.tensor([50.0], requires_grad=True)
    bradley_terry_loss(winner, loser, 10.0).backward()
    assert winner.grad is not None and winner.grad.item() == pytest.approx(-0.05)
    assert loser.grad is not None and loser.grad.item() == pytest.approx(0.05)
