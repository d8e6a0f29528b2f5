"""An exponential moving average of a network's weights, kept beside it during training and saved as `ema/`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class ExponentialMovingAverage:
    """Shadow copy of a module's trainable parameters in fp32 (bf16 would round away updates of 1 - decay).

    After n updates the decay is min(decay, (1 + n) / (10 + n)), so that short runs are not held back by their random start.
    `device` may be the CPU for models whose accelerator memory is full; None keeps every shadow beside its parameter.
    """

    def __init__(self, module: nn.Module, decay: float = 0.9999, device: torch.device | str | None = None) -> None:
        assert 0.0 <= decay < 1.0, "decay is the share of the old average that is kept"
        self.decay = decay
        self.num_updates = 0
        self.shadow: dict[str, Tensor] = {
            name: parameter.detach().to(device=device, dtype=torch.float32, copy=True)
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }

    def current_decay(self) -> float:
        """Decay of the next update."""
        return min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """shadow <- decay * shadow + (1 - decay) * parameter."""
        weight = 1.0 - self.current_decay()
        parameters = dict(module.named_parameters())
        shadows = list(self.shadow.values())
        current = [parameters[name].detach().to(device=shadow.device, dtype=torch.float32) for name, shadow in self.shadow.items()]
        if shadows:
            torch._foreach_lerp_(shadows, current, weight)
        self.num_updates += 1

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Writes the average into `module`'s parameters."""
        parameters = dict(module.named_parameters())
        for name, shadow in self.shadow.items():
            parameters[name].copy_(shadow)

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Runs the body with the averaged weights in `module`, then puts the trained ones back."""
        parameters = dict(module.named_parameters())
        kept = {name: parameters[name].detach().clone() for name in self.shadow}
        self.copy_to(module)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in kept.items():
                    parameters[name].copy_(tensor)

    def state_dict(self) -> dict[str, Tensor]:
        """The average under the parameters' names; `num_updates` and the decay are saved by the checkpoint beside it."""
        return dict(self.shadow)

    def load_state_dict(self, state: Mapping[str, Tensor], num_updates: int) -> None:
        """Restores the average; names and shapes must be those of this module."""
        assert state.keys() == self.shadow.keys(), "the average belongs to another network"
        for name, tensor in state.items():
            self.shadow[name].copy_(tensor)
        self.num_updates = num_updates
