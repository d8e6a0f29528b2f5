"""Score bins against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from imagewright.losses.score_distribution import NUM_BINS, expected_score, score_distribution_loss, soft_bins


def test_uniform_logits_mean_fifty() -> None:
    assert expected_score(torch.zeros(2, NUM_BINS)).tolist() == pytest.approx([50.0, 50.0])


@pytest.mark.parametrize("score", [0, 37, 100])
def test_certain_bin_means_its_own_score(score: int) -> None:
    logits = torch.full((1, NUM_BINS), -1e4)
    logits[0, score] = 0.0
    assert expected_score(logits).item() == pytest.approx(score)


def test_sharp_targets_keep_the_score_as_their_expectation() -> None:
    targets = soft_bins(torch.tensor([13.25, 0.0, 100.0]), 0.0)
    assert targets[0, 13].item() == pytest.approx(0.75) and targets[0, 14].item() == pytest.approx(0.25)
    assert (targets @ torch.arange(101.0)).tolist() == pytest.approx([13.25, 0.0, 100.0])


def test_soft_targets_follow_the_bell_curve() -> None:
    targets = soft_bins(torch.tensor([50.0]), 4.0)[0]
    assert targets.sum().item() == pytest.approx(1.0)
    assert (targets[54] / targets[50]).item() == pytest.approx(math.exp(-0.5), rel=1e-5)


def test_loss_of_uniform_logits_is_log_101_and_least_at_the_target() -> None:
    targets = soft_bins(torch.tensor([20.0]), 4.0)
    uniform = score_distribution_loss(torch.zeros(1, NUM_BINS), targets)
    assert uniform.item() == pytest.approx(math.log(101), rel=1e-5)
    best = score_distribution_loss(targets.clamp_min(1e-30).log(), targets)
    assert best.item() == pytest.approx(-(targets * targets.clamp_min(1e-30).log()).sum().item(), rel=1e-5)
    assert best < uniform
