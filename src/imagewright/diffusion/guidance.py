"""Classifier-free guidance on velocities; the model has no guidance input, so a guided step predicts twice (as one doubled pack)."""

from __future__ import annotations

from torch import Tensor


def needs_guidance(guidance_scale: float) -> bool:
    """Whether the unconditional prediction matters; at scale 1 guidance is the identity and the doubled pack is not built."""
    return guidance_scale != 1.0


def guide(conditional: Tensor, unconditional: Tensor, guidance_scale: Tensor | float) -> Tensor:
    """unconditional + scale (conditional - unconditional) (Ho and Salimans, 2207.12598); shapes [N, C], scale a number or [N, 1]."""
    return unconditional + guidance_scale * (conditional - unconditional)
