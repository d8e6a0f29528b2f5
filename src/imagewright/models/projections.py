"""Runs several linear layers with one input as one matrix product, when nothing listens to the layers themselves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def project_together(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    """cat([layer(x) for layer in layers]) over the last dimension; the layers have no bias.

    Plain layers run as one product on their joined weights: the input is read once and its gradient is one product instead of a sum.
    Layers that are wrapped or hooked (LoRA, ZeRO-3, quantisation) are called one by one, because joining weights would go round them.
    """
    if all(is_plain(layer) for layer in layers):
        return F.linear(x, torch.cat([layer.weight for layer in layers]))  # type: ignore[misc]
    return torch.cat([layer(x) for layer in layers], dim=-1)


def is_plain(layer: nn.Module) -> bool:
    """Whether calling `layer` does nothing but multiply by its weight."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return type(layer) is nn.Linear and layer.bias is None and not any(hooks)
