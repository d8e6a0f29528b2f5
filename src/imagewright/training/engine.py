"""An engine owns one network's precision, backward pass, gradient exchange, optimizer and state; methods never see which one runs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from imagewright.config.training import TrainingConfig
from imagewright.errors import InputError, Problem
from imagewright.training.optimizer import build_optimizer, set_learning_rate, state_kinds
from imagewright.training.world import World

WEIGHT = "weight"


class EngineStateError(InputError):
    """Saved state that does not fit the network."""


class Engine(Protocol):
    """One trainable network."""

    module: nn.Module

    def precision(self) -> AbstractContextManager[object]:
        """Context of every forward pass."""

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Adds the gradients of `loss`; `last` marks the final micro-batch of the optimizer step."""

    def gradient_norm(self) -> float:
        """Global norm of the step's gradients, summed over all processes; call once, after the last backward."""

    def step(self, learning_rate: float) -> None:
        """Clips, updates the weights and clears the gradients."""

    def discard(self) -> None:
        """Clears the gradients without an update."""

    def masters(self) -> nn.Module:
        """Holder of the trained fp32 weights, or of this process's shards of them; the moving average follows its parameters."""

    def export_weights(self) -> dict[str, Tensor]:
        """Full fp32 weights by parameter name, on the CPU of the first process; {} on the others. All processes must call it."""

    def export_state(self) -> dict[str, Tensor]:
        """Weights (`weight.<name>`) and optimizer state (`<kind>.<name>`), as `export_weights`; the same names in every engine."""

    def import_weights(self, weights: dict[str, Tensor]) -> None:
        """Takes trained weights by parameter name, given in full to every process. Raises EngineStateError when they do not fit."""

    def import_state(self, state: dict[str, Tensor]) -> None:
        """Takes back an exported state, given in full to every process. Raises EngineStateError when it does not fit."""


class TorchEngine:
    """Whole network in every process. Several processes exchange gradients once per optimizer step."""

    def __init__(self, module: nn.Module, config: TrainingConfig, world: World) -> None:
        self.module, self.config, self.world = module, config, world
        self.trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
        self.optimizer = build_optimizer(module, config)
        self.norm: Tensor | None = None

    def precision(self) -> AbstractContextManager[object]:
        """Autocast to bf16, or plain fp32."""
        if self.config.precision == "float32":
            return nullcontext()
        return torch.autocast(self.world.device.type, dtype=torch.bfloat16)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Accumulates into .grad; the exchange waits for the whole step."""
        loss.backward()  # type: ignore[no-untyped-call]

    def gradient_norm(self) -> float:
        """Sums gradients over processes, then takes their norm."""
        gradients = [parameter.grad for parameter in self.trained.values() if parameter.grad is not None]
        if self.world.size > 1:
            for parameter in self.trained.values():
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            gradients = [parameter.grad for parameter in self.trained.values() if parameter.grad is not None]
            for gradient in gradients:
                dist.all_reduce(gradient)
        self.norm = torch.nn.utils.get_total_norm(gradients)
        return float(self.norm)

    def step(self, learning_rate: float) -> None:
        """Needs `gradient_norm` before it, which exchanged the gradients."""
        assert self.norm is not None, "gradient_norm comes before step"
        torch.nn.utils.clip_grads_with_norm_(self.trained.values(), self.config.max_grad_norm, self.norm)
        set_learning_rate(self.optimizer, learning_rate)
        self.optimizer.step()
        self.discard()

    def discard(self) -> None:
        """Drops the gradients."""
        self.optimizer.zero_grad(set_to_none=True)
        self.norm = None

    def masters(self) -> nn.Module:
        """The network itself: its weights are fp32, autocast makes bf16 copies."""
        return self.module

    def export_weights(self) -> dict[str, Tensor]:
        """Every parameter, frozen ones included."""
        if not self.world.is_first:
            return {}
        return {name: parameter.detach().cpu().contiguous() for name, parameter in self.module.named_parameters()}

    def export_state(self) -> dict[str, Tensor]:
        """Trained weights and their optimizer state."""
        if not self.world.is_first:
            return {}
        state = {f"{WEIGHT}.{name}": parameter.detach().cpu().contiguous() for name, parameter in self.trained.items()}
        for name, parameter in self.trained.items():
            for kind, value in self.optimizer.state.get(parameter, {}).items():
                state[f"{kind}.{name}"] = torch.as_tensor(value).detach().cpu().contiguous()
        return state

    def import_weights(self, weights: dict[str, Tensor]) -> None:
        """Copies into the existing parameters, so that whoever holds them sees the new values."""
        check_weights(weights, self.trained)
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(weights[name])

    def import_state(self, state: dict[str, Tensor]) -> None:
        """Weights first, then the optimizer's moments and step counts."""
        kinds = split_state(state)
        check_kinds(kinds, self.trained, self.config)
        self.import_weights(kinds.pop(WEIGHT, {}))
        self.discard()
        self.optimizer.state.clear()
        for kind, values in kinds.items():
            for name, value in values.items():
                self.optimizer.state[self.trained[name]][kind] = value.to(self.trained[name].device).clone()


def split_state(state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """`<kind>.<parameter name>` -> kind -> parameter name -> tensor."""
    kinds: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        kind, _, name = key.partition(".")
        kinds.setdefault(kind, {})[name] = value
    return kinds


def check_kinds(kinds: Mapping[str, Mapping[str, Tensor]], trained: Mapping[str, Tensor], config: TrainingConfig) -> None:
    """Raises EngineStateError when the state is another optimizer's; unknown parameters are left to `check_weights`."""
    kept = [(kind, name) for kind, values in kinds.items() if kind != WEIGHT for name in values if name in trained]
    foreign = sorted({kind for kind, name in kept if kind not in state_kinds(config, name, trained[name])})
    if foreign:
        rule, fix = f"must be the state of {config.optimizer}", "set training.optimizer to that of the run"
        raise EngineStateError(Problem("checkpoint.optimizer", rule, foreign, fix))


def check_weights(weights: dict[str, Tensor], trained: dict[str, nn.Parameter]) -> None:
    """Raises EngineStateError naming missing, unknown and misshapen weights."""
    problems = [Problem(f"checkpoint.{name}", "is missing in the checkpoint") for name in trained if name not in weights]
    problems += [Problem(f"checkpoint.{name}", "is not a trained weight of this network") for name in weights if name not in trained]
    for name, parameter in trained.items():
        shape = getattr(parameter, "ds_shape", parameter.shape)
        if name in weights and weights[name].shape != shape:
            problems.append(Problem(f"checkpoint.{name}", f"must have shape {list(shape)}", list(weights[name].shape)))
    if problems:
        raise EngineStateError(problems[:20])


def build_engine(module: nn.Module, config: TrainingConfig, world: World) -> Engine:
    """The engine the configuration names. DeepSpeed is imported only when asked for: it compiles an op at its first start."""
    module.to(world.device)
    if config.engine == "deepspeed":
        from imagewright.training.deepspeed_engine import DeepSpeedEngine

        return DeepSpeedEngine(module, config, world)
    return TorchEngine(module, config, world)
