"""Would short segments attend faster by a few batched products than by torch's flash kernel, which the model uses, on this CPU?

Forward and backward of one layer on a pack of 2,048 tokens cut into segments of one length. CPU milliseconds, interleaved, medians.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from imagewright.training.host_memory import keep_freed_memory

TOKENS = 2048
LENGTHS = (16, 32, 41, 64, 96, 128)


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


def flash(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """torch's own, [batch, length, heads, d]."""
    return F.scaled_dot_product_attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)).transpose(1, 2)


def time_once(attend: Callable[[Tensor, Tensor, Tensor], Tensor], inputs: list[Tensor]) -> float:
    """CPU milliseconds of one forward and backward pass."""
    started = time.process_time()
    out = attend(*inputs)
    out.backward(torch.ones_like(out))
    return 1000 * (time.process_time() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as the trainer does
    print(f"machine: {platform.machine()}, torch {torch.__version__}, one thread")
    arms = {"products": lambda q, k, v: attend_short(q, k, v, None), "flash": flash}
    for dtype in (torch.float32, torch.bfloat16):
        for heads, width in ((4, 32), (4, 64)):
            for length in LENGTHS:
                inputs = [torch.randn(TOKENS // length, length, heads, width, dtype=dtype, requires_grad=True) for _ in range(3)]
                times: dict[str, list[float]] = {name: [] for name in arms}
                for _ in range(arguments.repeats + 1):
                    for name, attend in arms.items():
                        times[name].append(time_once(attend, inputs))
                products, other = (statistics.median(times[name][1:]) for name in ("products", "flash"))
                shape = f"{str(dtype).removeprefix('torch.')}, {heads} heads of {width}, segments of {length:3}"
                print(f"{shape}: products {products:7.2f} ms, flash {other:7.2f} ms, {products / other:.2f}", flush=True)


if __name__ == "__main__":
    main()
