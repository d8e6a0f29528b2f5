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
        weights: list[Tensor] = [layer.weight for layer in layers]  # type: ignore[misc]
        joined = neighbours(weights)
        return F.linear(x, torch.cat(weights) if joined is None else joined)
    return torch.cat([layer(x) for layer in layers], dim=-1)


def is_plain(layer: nn.Module) -> bool:
    """Whether calling `layer` does nothing but multiply by its weight."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return type(layer) is nn.Linear and layer.bias is None and not any(hooks)


def join_weights(layers: Sequence[nn.Linear]) -> None:
    """Freezes the layers and lays their weights side by side in memory, so that `project_together` copies nothing. No memory is added.

    Moving or copying a layer afterwards parts them again, which costs the copy and nothing else.
    """
    joined = torch.cat([layer.weight.detach() for layer in layers])
    for layer, part in zip(layers, torch.split(joined, [layer.out_features for layer in layers]), strict=True):
        layer.weight = nn.Parameter(part, requires_grad=False)


def neighbours(weights: Sequence[Tensor]) -> Tensor | None:
    """One view over frozen weights [out, in] that lie side by side in one storage; None when they do not, or when one is trained."""
    first = weights[0]
    if any(weight.requires_grad or not weight.is_contiguous() for weight in weights):
        return None
    storage, place = first.untyped_storage().data_ptr(), first.data_ptr()
    for weight in weights:
        if weight.data_ptr() != place or weight.untyped_storage().data_ptr() != storage or weight.shape[1] != first.shape[1]:
            return None
        place += weight.numel() * weight.element_size()
    return first.as_strided((sum(weight.shape[0] for weight in weights), first.shape[1]), (first.shape[1], 1))
