"""AdamW whose two moments are kept in 8 bits: about 2 bytes a parameter instead of 8, in plain tensors that a checkpoint can hold.

Weights and gradients stay fp32. No kernel is compiled, so it runs wherever torch does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

BLOCK = 256
"""Values that share one scale."""
SMALLEST_QUANTISED = 4096
"""Tensors below this size (norms, biases) keep fp32 moments: they weigh little and matter much."""
PART = 1 << 22
"""Values updated at a time, a multiple of BLOCK: bounds the fp32 copies an update needs."""
SMALLEST_SCALE = 1e-38
"""Stands for the scale of a block of zeros."""
DECADES = 7
"""Powers of ten between the largest value of a block and the smallest that is not rounded to 0."""
FIRST, SECOND, SCALE = "first_moment", "second_moment", "_scale"
STATE_KINDS = frozenset({"step", FIRST, SECOND, FIRST + SCALE, SECOND + SCALE})


class AdamW8bit(Optimizer):
    """AdamW with block-wise dynamic quantisation of its moments. Source: Dettmers et al. 2110.02861, section 2.

    State of a tensor: `step`; `first_moment` and `second_moment`, as codes [blocks, 256] uint8 with one scale a block [blocks] fp32, or
    flat in fp32 for small tensors. Differs from the paper in one thing: a second moment is never rounded to 0, since a small gradient
    would then be divided by epsilon alone.
    """

    def __init__(self, params: Iterable[Any], lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Updates every parameter that has a gradient."""
        assert closure is None, "losses are computed before the step"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.update(parameter, group)

    def update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        """One parameter, part by part."""
        assert parameter.grad is not None, "only parameters with a gradient are updated"
        state = self.state[parameter]
        if not state:
            state.update(empty_state(parameter))
        state["step"] += 1
        weights, gradients = parameter.view(-1), parameter.grad.reshape(-1)
        for start in range(0, len(weights), PART):
            end = min(start + PART, len(weights))
            rows = slice(start // BLOCK, -(-end // BLOCK)) if len(weights) >= SMALLEST_QUANTISED else slice(None)
            moments = {name: value[rows] for name, value in state.items() if name != "step"}
            self.update_part(weights[start:end], gradients[start:end].float(), moments, group, float(state["step"]))

    def update_part(self, weights: Tensor, gradients: Tensor, moments: dict[str, Tensor], group: dict[str, Any], steps: float) -> None:
        """weights, gradients [n]; moments: views of the state that belongs to them. The update uses the moments before they are rounded."""
        first_decay, second_decay = group["betas"]
        first, second = (read_moment(moments, name, signed=name == FIRST)[: len(weights)] for name in (FIRST, SECOND))
        first.lerp_(gradients, 1 - first_decay)
        second.mul_(second_decay).addcmul_(gradients, gradients, value=1 - second_decay)
        denominator = second.sqrt().div_((1 - second_decay**steps) ** 0.5).add_(group["eps"])
        weights.mul_(1 - group["lr"] * group["weight_decay"])
        weights.addcdiv_(first, denominator, value=-group["lr"] / (1 - first_decay**steps))
        write_moment(moments, FIRST, first, signed=True)
        write_moment(moments, SECOND, second, signed=False)


def empty_state(parameter: Tensor) -> dict[str, Tensor]:
    """Moments of zero and no steps."""
    state, size, device = {"step": torch.tensor(0.0)}, parameter.numel(), parameter.device
    for name in (FIRST, SECOND):
        if size < SMALLEST_QUANTISED:
            state[name] = torch.zeros(size, device=device)
        else:
            state[name] = torch.zeros(-(-size // BLOCK), BLOCK, dtype=torch.uint8, device=device)
            state[name + SCALE] = torch.zeros(-(-size // BLOCK), device=device)
    return state


def read_moment(moments: dict[str, Tensor], name: str, *, signed: bool) -> Tensor:
    """A moment's values, flat; those of an unfilled last block included."""
    kept = moments[name]
    if name + SCALE not in moments:
        return kept.clone()
    levels, _ = code_book(signed, kept.device)
    return (levels[kept.int()] * moments[name + SCALE][:, None]).flatten()


def write_moment(moments: dict[str, Tensor], name: str, values: Tensor, *, signed: bool) -> None:
    """Rounds values [n] to the nearest level of their block and stores them in place."""
    kept = moments[name]
    if name + SCALE not in moments:
        kept.copy_(values)
        return
    blocks = torch.nn.functional.pad(values, (0, kept.numel() - len(values))).view(-1, BLOCK)
    scale = blocks.abs().amax(dim=1)
    _, edges = code_book(signed, kept.device)
    codes = torch.bucketize(blocks / scale.clamp_min(SMALLEST_SCALE)[:, None], edges, out_int32=True)
    kept.copy_(codes if signed else codes.clamp_min_(1))
    moments[name + SCALE].copy_(scale)


@lru_cache
def code_book(signed: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """The 256 levels of dynamic tree quantisation in -1..1 (signed) or 0..1, ascending, and the 255 edges between them.

    Seven decades below 1, each with twice as many levels as the one below it, evenly spread over 0.1..1 of its decade.
    """
    levels = [0.0, 1.0]
    for exponent in range(DECADES):
        edges = torch.linspace(0.1, 1.0, 2 ** (exponent + (0 if signed else 1)) + 1, dtype=torch.float64)
        magnitudes = ((edges[:-1] + edges[1:]) / 2 * 10.0 ** (exponent - DECADES + 1)).tolist()
        levels += magnitudes + ([-magnitude for magnitude in magnitudes] if signed else [])
    table = torch.tensor(sorted(levels), dtype=torch.float64)
    assert len(table) == 256, "a code is one byte"
    return table.float().to(device), ((table[:-1] + table[1:]) / 2).float().to(device)
