"""Muon for the matrices inside the blocks and AdamW for everything else, as one optimizer with one state.

Source: Jordan et al., Muon: an optimizer for hidden layers in neural networks; Liu et al. 2502.16982. The step is that of
`torch.optim.Muon`, except that off the GPU matrices are orthogonalised in fp32: torch rounds them to bf16, and where the processor has
no bf16 products that takes some twenty times as long (`benchmarks/muon_step.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

MOMENTUM_BUFFER = "momentum_buffer"
STATE_KINDS = frozenset({MOMENTUM_BUFFER})
MOMENTUM = 0.95
UPDATE_SIZE = 0.2
"""Root mean square of AdamW's usual update; an orthogonal [a, b] has 1 / sqrt(max(a, b)) (Liu et al., section 2.2)."""
STEPS = 5
LINEAR, CUBIC, QUINTIC = 3.4445, -4.7750, 2.0315
"""p(s) = 3.4445 s - 4.7750 s^3 + 2.0315 s^5, applied five times, takes singular values in 0..1 to about 0.7..1.2 (Jordan et al.)."""
SMALLEST_NORM = 1e-7
"""Stands for the norm of a matrix of zeros."""


class MuonAdamW(Optimizer):
    """Muon and torch's fused AdamW behind one `step`, one list of groups and one state.

    State: `momentum_buffer` (fp32, 4 bytes a weight) for what Muon updates; `step`, `exp_avg`, `exp_avg_sq` for the rest.
    """

    def __init__(self, muon: Sequence[dict[str, Any]], adamw: Sequence[dict[str, Any]], *, betas: tuple[float, float], eps: float) -> None:
        """muon, adamw: parameter groups, weight decay included; either may be empty, not both."""
        super().__init__([*muon, *adamw], {"lr": 0.0})
        self.muon_groups = self.param_groups[: len(muon)]
        self.adamw = torch.optim.AdamW(self.param_groups[len(muon) :], betas=betas, eps=eps, fused=True) if adamw else None
        if self.adamw is not None:
            self.adamw.state = self.state  # the same object: who restores the state reaches both

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Updates every parameter that has a gradient."""
        assert closure is None, "losses are computed before the step"
        for group in self.muon_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.update(parameter, parameter.grad, group["lr"], group["weight_decay"])
        if self.adamw is not None:
            self.adamw.step()

    def update(self, weight: Tensor, gradient: Tensor, learning_rate: float, weight_decay: float) -> None:
        """One matrix: Nesterov momentum, orthogonalised, scaled to the size of AdamW's update; the decay is decoupled."""
        state = self.state[weight]
        if MOMENTUM_BUFFER not in state:
            state[MOMENTUM_BUFFER] = torch.zeros_like(gradient)
        momentum = state[MOMENTUM_BUFFER].lerp_(gradient, 1 - MOMENTUM)
        update = orthogonalise(gradient.lerp(momentum, MOMENTUM))
        weight.mul_(1 - learning_rate * weight_decay)
        weight.add_(update, alpha=-learning_rate * UPDATE_SIZE * max(weight.shape) ** 0.5)


def orthogonalise(matrix: Tensor) -> Tensor:
    """The matrix [a, b] with singular values near 1: bf16 on a GPU, fp32 elsewhere."""
    tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if tall else matrix
    wide = wide / wide.norm().clamp(min=SMALLEST_NORM)
    if matrix.is_cuda:
        result = newton_schulz(wide.bfloat16())
    elif wide.shape[0] < wide.shape[1]:
        result = gram_newton_schulz(wide)
    else:
        result = newton_schulz(wide)
    return (result.T if tall else result).to(matrix.dtype)


def newton_schulz(x: Tensor) -> Tensor:
    """p applied five times to the singular values of x [a, b], a <= b, which must lie in 0..1."""
    for _ in range(STEPS):
        x = torch.addmm(x, polynomial(x @ x.T), x, beta=LINEAR)
    return x


def gram_newton_schulz(x: Tensor) -> Tensor:
    """The same for fp32 and a < b, with products [a, a] alone: p(x) = q(x x^T) x, and x x^T becomes q (x x^T) q."""
    gram = x @ x.T
    total: Tensor | None = None
    for step in range(STEPS):
        factor = polynomial(gram)
        factor.diagonal().add_(LINEAR)
        total = factor if total is None else total @ factor
        if step < STEPS - 1:
            gram = factor @ gram @ factor
    assert total is not None, "there is at least one step"
    return total @ x


def polynomial(gram: Tensor) -> Tensor:
    """-4.7750 g + 2.0315 g^2."""
    return torch.addmm(gram, gram, gram, beta=CUBIC, alpha=QUINTIC)
