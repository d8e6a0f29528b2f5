"""Guidance by hand numbers."""

from __future__ import annotations

import torch

from imagewright.diffusion.guidance import guide, needs_guidance

CONDITIONAL, UNCONDITIONAL = torch.tensor([[3.0], [1.0]]), torch.tensor([[1.0], [2.0]])


def test_guidance_extrapolates_from_the_unconditional_prediction() -> None:
    assert guide(CONDITIONAL, UNCONDITIONAL, 4.0).tolist() == [[9.0], [-2.0]]


def test_each_token_may_have_its_own_scale() -> None:
    assert guide(CONDITIONAL, UNCONDITIONAL, torch.tensor([[0.0], [1.0]])).tolist() == [[1.0], [1.0]]


def test_scale_one_needs_no_second_prediction() -> None:
    assert not needs_guidance(1.0)
    assert needs_guidance(1.01) and needs_guidance(0.0)
