"""The written-out gradients against autograd on the plain formulas."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from imagewright.models.kernels import AddGatedFunction, GatedGeluFunction, HeadNormRotateFunction, ModulatedRMSNormFunction
from imagewright.models.rope import rotate


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), requires_grad=True)


COS, SIN = draw(5, 1, 8).detach(), draw(5, 1, 8).detach() + 0.3
CASES: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], list[Tensor]]] = {
    "modulated norm": (
        lambda x, w, scale, shift: ModulatedRMSNormFunction.apply(x, w, scale, shift, 1e-6),
        lambda x, w, scale, shift: F.rms_norm(x, (8,), w, 1e-6) * scale + shift,
        [draw(5, 8), draw(8), draw(5, 8) * 1, draw(5, 8) * 2],
    ),
    "gate": (AddGatedFunction.apply, lambda residual, gate, update: residual + gate * update, [draw(5, 8), draw(5, 8) * 2, draw(5, 8) * 3]),
    "head norm and rotation": (
        lambda x, w: HeadNormRotateFunction.apply(x, w, COS, SIN, 1e-6),
        lambda x, w: rotate(F.rms_norm(x, (8,), w, 1e-6), COS, SIN),
        [draw(5, 2, 8), draw(8)],
    ),
    "gated gelu": (GatedGeluFunction.apply, lambda h: h[:, 4:] * F.gelu(h[:, :4]), [draw(5, 8)]),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_equal_the_plain_formula(name: str) -> None:
    kernel, formula, inputs = CASES[name]
    results = []
    for function in (kernel, formula):
        leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
        out = function(*leaves)
        (out * draw(*out.shape).detach()).sum().backward()
        results.append([out.detach(), *(leaf.grad for leaf in leaves)])
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_frozen_inputs_get_no_gradient_and_do_not_disturb_the_others(name: str) -> None:
    kernel, _, inputs = CASES[name]
    leaves = [tensor.detach().clone().requires_grad_(index == 0) for index, tensor in enumerate(inputs)]
    kernel(*leaves).sum().backward()
    assert leaves[0].grad is not None and all(leaf.grad is None for leaf in leaves[1:])


def test_bf16_comes_out_in_bf16_from_fp32_arithmetic() -> None:
    x, weight, scale, shift = draw(5, 8).bfloat16(), draw(8).bfloat16(), draw(5, 8), draw(5, 8)
    out = ModulatedRMSNormFunction.apply(x, weight, scale, shift, 1e-6)
    exact = F.rms_norm(x.float(), (8,), weight.float(), 1e-6) * scale + shift
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, exact.bfloat16())
