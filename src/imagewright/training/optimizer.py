"""Builds the optimizer of one network: decay for matrices only, fused kernels where torch has them."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer

from imagewright.config.training import TrainingConfig


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Two groups: matrices with decay; vectors (norms, biases) without, since decay would pull scales to zero."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim > 1]
    vectors = [parameter for parameter in trained if parameter.ndim <= 1]
    groups: list[dict[str, object]] = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def build_optimizer(module: nn.Module, config: TrainingConfig) -> Optimizer:
    """AdamW (fused) or Adafactor; the learning rate is set before every step."""
    groups = parameter_groups(module, config.weight_decay)
    if config.optimizer == "adafactor":
        return torch.optim.Adafactor(groups, lr=0.0)
    return torch.optim.AdamW(groups, lr=0.0, betas=config.betas, eps=config.epsilon, fused=True)
