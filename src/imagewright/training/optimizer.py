"""Builds the optimizer of one network: decay for matrices only, fused kernels where torch has them."""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from imagewright.config.training import TrainingConfig
from imagewright.training.eight_bit import STATE_KINDS as EIGHT_BIT_KINDS
from imagewright.training.eight_bit import AdamW8bit
from imagewright.training.muon import STATE_KINDS as MUON_KINDS
from imagewright.training.muon import MuonAdamW

ADAMW_KINDS = frozenset({"step", "exp_avg", "exp_avg_sq"})
"""Names of torch's AdamW state."""
RATIO = "learning_rate_ratio"
"""Key of a parameter group whose learning rate is not that of the schedule."""
BLOCK_MATRIX = re.compile(r"(^|\.)layers\.\d+\.(?!.*lora_)")
"""Names of what lies inside a transformer block and belongs to no adapter."""


def parameter_groups(parameters: Iterable[Tensor], weight_decay: float) -> list[dict[str, object]]:
    """Two groups: matrices with decay; vectors (norms, biases) without, since decay would pull scales to zero."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim > 1]
    vectors = [parameter for parameter in trained if parameter.ndim <= 1]
    groups: list[dict[str, object]] = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def is_block_matrix(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a weight [out, in] inside a transformer block (`layers.<number>`): what Muon updates.

    Not among them: embedders, modulation and output, which Muon's authors leave to AdamW; the low-rank factors of adapters, whose
    product would not be orthogonal when they are; every network without `layers`.
    """
    return parameter.ndim == 2 and BLOCK_MATRIX.search(name) is not None


def build_optimizer(module: nn.Module, config: TrainingConfig) -> Optimizer:
    """The optimizer the configuration names; `set_learning_rate` comes before every step."""
    if config.optimizer == "muon":
        return build_muon(module, config)
    groups = parameter_groups(module.parameters(), config.weight_decay)
    if config.optimizer == "adafactor":
        return torch.optim.Adafactor(groups, lr=0.0)
    if config.optimizer == "adamw_8bit":
        return AdamW8bit(groups, lr=0.0, betas=config.betas, eps=config.epsilon)
    return torch.optim.AdamW(groups, lr=0.0, betas=config.betas, eps=config.epsilon, fused=True)


def build_muon(module: nn.Module, config: TrainingConfig) -> Optimizer:
    """Muon for the block matrices, AdamW for the rest, which is everything where there are none."""
    trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    matrices = [parameter for name, parameter in trained.items() if is_block_matrix(name, parameter)]
    rest = [parameter for name, parameter in trained.items() if not is_block_matrix(name, parameter)]
    muon: list[dict[str, object]] = [{"params": matrices, "weight_decay": config.weight_decay, RATIO: config.muon_learning_rate_ratio}]
    return MuonAdamW(muon if matrices else [], parameter_groups(rest, config.weight_decay), betas=config.betas, eps=config.epsilon)


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Gives every parameter group its share of the schedule's learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get(RATIO, 1.0)


def state_kinds(config: TrainingConfig, name: str, parameter: Tensor) -> frozenset[str]:
    """Names of what the configured optimizer keeps for one parameter."""
    if config.optimizer == "muon":
        return MUON_KINDS if is_block_matrix(name, parameter) else ADAMW_KINDS
    return {
        "adamw": ADAMW_KINDS,
        "adamw_8bit": EIGHT_BIT_KINDS,
        "adafactor": frozenset({"step", "row_var", "col_var", "variance"}),
    }[config.optimizer]
