"""Builds the optimizer of one network: decay for matrices only, fused kernels where torch has them."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer

from imagewright.config.training import TrainingConfig
from imagewright.training.eight_bit import STATE_KINDS as EIGHT_BIT_KINDS
from imagewright.training.eight_bit import AdamW8bit


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Two groups: matrices with decay; vectors (norms, biases) without, since decay would pull scales to zero."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim > 1]
    vectors = [parameter for parameter in trained if parameter.ndim <= 1]
    groups: list[dict[str, object]] = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def build_optimizer(module: nn.Module, config: TrainingConfig) -> Optimizer:
    """The optimizer the configuration names; the learning rate is set before every step."""
    groups = parameter_groups(module, config.weight_decay)
    if config.optimizer == "adafactor":
        return torch.optim.Adafactor(groups, lr=0.0)
    if config.optimizer == "adamw_8bit":
        return AdamW8bit(groups, lr=0.0, betas=config.betas, eps=config.epsilon)
    return torch.optim.AdamW(groups, lr=0.0, betas=config.betas, eps=config.epsilon, fused=True)


def state_kinds(config: TrainingConfig) -> frozenset[str]:
    """Names of what the configured optimizer keeps per parameter."""
    return {
        "adamw": frozenset({"step", "exp_avg", "exp_avg_sq"}),
        "adamw_8bit": EIGHT_BIT_KINDS,
        "adafactor": frozenset({"step", "row_var", "col_var", "variance"}),
    }[config.optimizer]
