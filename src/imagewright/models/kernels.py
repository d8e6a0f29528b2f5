"""The DiT's elementwise arithmetic as autograd functions with written-out gradients: fewer passes over memory than autograd's own.

Everything is computed in fp32 and returned in the input's dtype. On a CPU the passes, not the products, limit a small model.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


class ModulatedRMSNormFunction(torch.autograd.Function):
    """y = n * weight * scale + shift with n = x / rms(x)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
        normed, reciprocal = normalise(x, eps)
        ctx.save_for_backward(normed, reciprocal, weight, scale)
        ctx.dtype = x.dtype
        return torch.addcmul(shift, normed * weight, scale).to(x.dtype)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        normed, reciprocal, weight, scale = ctx.saved_tensors
        grad = grads[0].float()
        grad_normed_product = grad * normed
        grad_scale = grad_normed_product * weight if ctx.needs_input_grad[2] else None
        grad_weight = grad_normed_product.mul_(scale).sum(0).to(weight.dtype) if ctx.needs_input_grad[1] else None
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = normalise_backward((grad * scale).mul_(weight), normed, reciprocal).to(ctx.dtype)
        return grad_x, grad_weight, grad_scale, grad if ctx.needs_input_grad[3] else None, None


class AddGatedFunction(torch.autograd.Function):
    """y = residual + gate * update."""

    @staticmethod
    def forward(ctx: Any, residual: Tensor, gate: Tensor, update: Tensor) -> Tensor:
        ctx.save_for_backward(gate, update)
        if residual.dtype == torch.float32:
            return torch.addcmul(residual, gate, update)
        return residual + (gate * update).to(residual.dtype)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gate, update = ctx.saved_tensors
        grad = grads[0]
        grad_gate = grad.float() * update if ctx.needs_input_grad[1] else None
        grad_update = (grad * gate).to(update.dtype) if ctx.needs_input_grad[2] else None
        return grad, grad_gate, grad_update


class HeadNormRotateFunction(torch.autograd.Function):
    """y = rotate(n * weight) with n = x / rms(x) over the width of a head; see rope.py for the rotation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, eps: float) -> Tensor:
        normed, reciprocal = normalise(x, eps)
        ctx.save_for_backward(normed, reciprocal, weight, cos, sin)
        ctx.dtype = x.dtype
        half = x.shape[-1] // 2
        scaled = normed * weight
        out = scaled * cos
        out[..., :half].addcmul_(scaled[..., half:], sin[..., :half], value=-1)
        out[..., half:].addcmul_(scaled[..., :half], sin[..., half:])
        return out.to(x.dtype)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        normed, reciprocal, weight, cos, sin = ctx.saved_tensors
        grad = grads[0].float()
        half = grad.shape[-1] // 2
        grad_scaled = grad * cos
        grad_scaled[..., :half].addcmul_(grad[..., half:], sin[..., half:])
        grad_scaled[..., half:].addcmul_(grad[..., :half], sin[..., :half], value=-1)
        grad_weight = (grad_scaled * normed).sum((0, 1)).to(weight.dtype) if ctx.needs_input_grad[1] else None
        grad_x = normalise_backward(grad_scaled.mul_(weight), normed, reciprocal).to(ctx.dtype) if ctx.needs_input_grad[0] else None
        return grad_x, grad_weight, None, None, None


class GatedGeluFunction(torch.autograd.Function):
    """y = up * gelu(gate), the exact (erf) GELU, from [rows, 2F] that holds gate, then up; the gradient is written into one tensor."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        activated = F.gelu(gate)
        ctx.save_for_backward(gate_up, activated)
        return activated * up

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        gate_up, activated = ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=-1)
        grad_gate_up = torch.empty_like(gate_up)
        grad_gate, grad_up = grad_gate_up.chunk(2, dim=-1)
        torch.mul(grads[0], activated, out=grad_up)
        torch.ops.aten.gelu_backward.grad_input(grads[0] * up, gate, grad_input=grad_gate)
        return grad_gate_up


def normalise(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x / sqrt(mean(x^2) + eps) over the last dimension, in fp32, and the reciprocal root [..., 1]."""
    x = x.float()
    mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1])
    reciprocal = mean_square.add_(eps).rsqrt_()
    return x * reciprocal, reciprocal


def normalise_backward(grad: Tensor, normed: Tensor, reciprocal: Tensor) -> Tensor:
    """Gradient of `normalise` by x: (grad - normed * mean(grad * normed)) / rms. Overwrites `grad`."""
    projection = (grad * normed).mean(dim=-1, keepdim=True)
    return grad.addcmul_(normed, projection, value=-1).mul_(reciprocal)
