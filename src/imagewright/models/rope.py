"""Rotary position tables of a pack, computed once per step and shared by every block.

Source: diffusers `ErnieImageEmbedND3`. The released weights expect a layout that is standard in neither convention: frequencies are
duplicated in interleaved order (a0, a0, a1, a1, ...) and applied with the half-split rotation (x1, x2) -> (-x2, x1).
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotary_angles(position_ids: Tensor, axes_dim: tuple[int, int, int], theta: int) -> Tensor:
    """Angles [rows, head_dim] in fp32 from positions [rows, 3]. bf16 could not tell positions above 256 apart."""
    angles = []
    for axis, width in enumerate(axes_dim):
        exponents = torch.arange(0, width, 2, dtype=torch.float32, device=position_ids.device) / width
        omega = 1.0 / theta**exponents
        angles.append(position_ids[:, axis, None].float() * omega)
    return torch.cat(angles, dim=-1).repeat_interleave(2, dim=-1)


def rotary_tables(position_ids: Tensor, axes_dim: tuple[int, int, int], theta: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines [rows, 1, head_dim], computed in fp32 (autocast off) and cast to `dtype` once."""
    with torch.autocast(device_type=position_ids.device.type, enabled=False):
        angles = rotary_angles(position_ids, axes_dim, theta)
        return angles.cos().to(dtype).unsqueeze(1), angles.sin().to(dtype).unsqueeze(1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x * cos + (-x2, x1) * sin over the two halves of the last dimension; x: [rows, heads, head_dim]."""
    x1, x2 = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-x2, x1), dim=-1) * sin
