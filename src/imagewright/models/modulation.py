"""Norms, gates and embeddings that the timestep drives; their arithmetic is fp32 whatever the model's dtype."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imagewright.models.kernels import AddGatedFunction, ModulatedRMSNormFunction


class ModulatedRMSNorm(nn.Module):
    """RMSNorm(x) * scale + shift, one scale and shift row per token; `scale` already holds the 1 of (1 + scale)."""

    def __init__(self, hidden_size: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(hidden_size))

    def forward(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """x: [rows, hidden]; scale, shift: [rows, hidden] fp32."""
        out: Tensor = ModulatedRMSNormFunction.apply(x, self.weight, scale, shift, self.eps)  # type: ignore[no-untyped-call]
        return out


def add_gated(residual: Tensor, gate: Tensor, update: Tensor) -> Tensor:
    """residual + gate * update; the product in fp32. All [rows, hidden]."""
    out: Tensor = AddGatedFunction.apply(residual, gate, update)  # type: ignore[no-untyped-call]
    return out


class TimestepEmbedding(nn.Module):
    """Linear, SiLU, Linear on the sinusoid of the timestep."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(hidden_size, hidden_size)
        self.linear_2 = nn.Linear(hidden_size, hidden_size)

    def forward(self, timesteps: Tensor, dtype: torch.dtype) -> Tensor:
        """timesteps [B] (0..1000) -> [B, hidden]."""
        embedded = sinusoid(timesteps, self.linear_1.in_features).to(dtype)
        out: Tensor = self.linear_2(F.silu(self.linear_1(embedded)))
        return out


def sinusoid(timesteps: Tensor, width: int) -> Tensor:
    """[B] -> [B, width] in fp32: sines, then cosines, of timestep / 10000^(2i / width) (Vaswani et al., 1706.03762)."""
    half = width // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=timesteps.device) / half)
    angles = timesteps.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class FinalNorm(nn.Module):
    """LayerNorm without affine, modulated by Linear(c); there is no SiLU in front and the chunks are scale, then shift."""

    def __init__(self, hidden_size: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.linear = nn.Linear(hidden_size, 2 * hidden_size)

    def forward(self, x: Tensor, condition: Tensor, segment_ids: Tensor) -> Tensor:
        """x: [N, hidden]; condition: [B, hidden]; segment_ids: [N]."""
        scale, shift = self.linear(condition).float().chunk(2, dim=-1)
        normed = F.layer_norm(x, (x.shape[-1],), eps=self.eps).float()
        out: Tensor = (normed * (1 + scale)[segment_ids] + shift[segment_ids]).to(x.dtype)
        return out
