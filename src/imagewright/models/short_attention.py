"""Attention of many short segments on a CPU: a few products over all segments and heads at once.

torch's CPU flash kernel makes several matrix calls for every segment and head; where segments are short those calls cost more than their
arithmetic. `benchmarks/short_attention.py` looks for where that ends.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LONGEST_SHORT = 48
"""Segments of at most this many tokens count as short; measured up to 41 tokens with 4 heads of 32."""


class ShortAttentionFunction(torch.autograd.Function):
    """softmax(q k^T / sqrt(d)) v with the softmax in fp32; its weights are kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, valid: Tensor | None) -> Tensor:
        """query, key, value, output: [batch, length, heads, d]; valid [batch, 1, 1, length]: keys that hold a token (None: all)."""
        batch, length, heads, width = query.shape
        q, k, v = (heads_first(x) for x in (query, key, value))
        ctx.scale = width**-0.5
        q = q * ctx.scale
        if valid is None:
            scores = torch.bmm(q, k.mT)
        else:
            bias = torch.zeros(valid.shape, dtype=q.dtype, device=q.device).masked_fill_(~valid, float("-inf"))
            scores = torch.baddbmm(bias.expand(-1, heads, -1, -1).reshape(batch * heads, 1, length), q, k.mT)
        weights = torch.softmax(scores, dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(v.dtype)
        ctx.save_for_backward(q, k, v, weights)
        ctx.heads = heads
        return heads_last(torch.bmm(weights, v), heads)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, weights = ctx.saved_tensors
        grad = heads_first(grads[0])
        grad_value = torch.bmm(weights.mT, grad)
        grad_weights = torch.bmm(grad, v.mT)
        grad_scores = torch.ops.aten._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
        grad_query = torch.bmm(grad_scores, k).mul_(ctx.scale)
        grad_key = torch.bmm(grad_scores.mT, q)
        return heads_last(grad_query, ctx.heads), heads_last(grad_key, ctx.heads), heads_last(grad_value, ctx.heads), None


def heads_first(x: Tensor) -> Tensor:
    """[batch, length, heads, d] -> [batch * heads, length, d], contiguous."""
    return x.transpose(1, 2).flatten(0, 1).contiguous()


def heads_last(x: Tensor, heads: int) -> Tensor:
    """[batch * heads, length, d] -> [batch, length, heads, d], a view."""
    return x.view(-1, heads, *x.shape[1:]).transpose(1, 2)


def attend_short(query: Tensor, key: Tensor, value: Tensor, valid: Tensor | None) -> Tensor:
    """All [batch, length, heads, d]; valid [batch, 1, 1, length] or None."""
    out: Tensor = ShortAttentionFunction.apply(query, key, value, valid)  # type: ignore[no-untyped-call]
    return out
