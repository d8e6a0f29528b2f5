"""Attention of a pack: every token attends to all tokens of its own sample and to nothing else.

CUDA with bf16 or fp16: one variable-length flash kernel over the whole pack. Everywhere else: a few batched calls over groups of
segments of nearly equal length (`buckets.py`); no dense block mask, no call per segment.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imagewright.models.buckets import Bucket
from imagewright.models.kernels import HeadNormRotateFunction
from imagewright.models.packing import Layout
from imagewright.models.projections import project_together

try:  # torch < 2.10 has no variable-length kernel; the bucketed path works there too
    from torch.nn.attention import varlen
except ImportError:
    varlen = None  # type: ignore[assignment]


class HeadNorm(nn.Module):
    """RMS norm over the width of one head, then the rotary turn. The norm is computed in fp32."""

    def __init__(self, head_dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(head_dim))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x: [rows, heads, head_dim]; cos, sin: [rows, 1, head_dim]."""
        out: Tensor = HeadNormRotateFunction.apply(x, self.weight, cos, sin, self.eps)  # type: ignore[no-untyped-call]
        return out


class SelfAttention(nn.Module):
    """Multi-head self-attention over a pack. The four projections are plain `nn.Linear` modules, so LoRA adapters attach to them."""

    def __init__(self, hidden_size: int, num_heads: int, eps: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_q = nn.Linear(hidden_size, hidden_size, bias=False)
        self.to_k = nn.Linear(hidden_size, hidden_size, bias=False)
        self.to_v = nn.Linear(hidden_size, hidden_size, bias=False)
        self.norm_q = HeadNorm(hidden_size // num_heads, eps)
        self.norm_k = HeadNorm(hidden_size // num_heads, eps)
        self.to_out = nn.ModuleList([nn.Linear(hidden_size, hidden_size, bias=False)])

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, layout: Layout, only: Tensor | None = None) -> Tensor:
        """x: [rows, hidden] -> [rows, hidden], or [len(only), hidden] when the caller needs `only` those rows."""
        projected = project_together((self.to_q, self.to_k, self.to_v), x)
        query, key, value = projected.view(x.shape[0], 3, self.num_heads, -1).unbind(1)
        attended = attend_pack(self.norm_q(query, cos, sin), self.norm_k(key, cos, sin), value, layout).flatten(1)
        out: Tensor = self.to_out[0](attended if only is None else attended.index_select(0, only))
        return out


def attend_pack(query: Tensor, key: Tensor, value: Tensor, layout: Layout) -> Tensor:
    """softmax(q k^T / sqrt(head_dim)) v inside every segment; all tensors [rows, heads, head_dim]."""
    if varlen is not None and query.is_cuda and query.dtype in (torch.bfloat16, torch.float16):
        cuts, longest = layout.cu_lengths, layout.max_length
        out = varlen.varlen_attn(query, key, value, cuts, cuts, longest, longest)
        assert isinstance(out, Tensor), "the log-sum-exp was not asked for"
        return out
    rows = [bucket.rows for bucket in layout.buckets]
    pieces = zip(torch.split(query, rows), torch.split(key, rows), torch.split(value, rows), layout.buckets, strict=True)
    return torch.cat([attend_bucket(q, k, v, bucket) for q, k, v, bucket in pieces])


def attend_bucket(query: Tensor, key: Tensor, value: Tensor, bucket: Bucket) -> Tensor:
    """Attention of one bucket, [bucket rows, heads, head_dim] each; pads are masked as keys and dropped as queries."""
    shape = (bucket.batch, bucket.length, *query.shape[1:])
    batch_q, batch_k, batch_v = (to_slots(x, bucket).reshape(shape).transpose(1, 2) for x in (query, key, value))
    attended = F.scaled_dot_product_attention(batch_q, batch_k, batch_v, attn_mask=bucket.valid)
    return from_slots(attended.transpose(1, 2).flatten(0, 1), bucket)


class GatherSlots(torch.autograd.Function):
    """x[gather] whose gradient is grad[slots]: every row has one real slot, pad slots get no gradient, so nothing is scattered."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gather: Tensor, slots: Tensor) -> Tensor:
        ctx.save_for_backward(slots)
        return x.index_select(0, gather)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (slots,) = ctx.saved_tensors
        return grads[0].index_select(0, slots), None, None


def to_slots(x: Tensor, bucket: Bucket) -> Tensor:
    """[bucket rows, ...] -> [batch * length, ...]; pad slots repeat row 0."""
    if bucket.gather is None:
        return x
    out: Tensor = GatherSlots.apply(x, bucket.gather, bucket.slots)  # type: ignore[no-untyped-call]
    return out


def from_slots(x: Tensor, bucket: Bucket) -> Tensor:
    """[batch * length, ...] -> [bucket rows, ...]."""
    return x if bucket.slots is None else x.index_select(0, bucket.slots)
