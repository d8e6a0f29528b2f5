"""ZeRO-1/2/3 behind the engine contract: sharded in memory, whole and named in a checkpoint.

Saved state has the same names and shapes as TorchEngine's, gathered one parameter at a time, so a run can change its ZeRO stage, its number
of processes or its engine between two starts, and no pickled DeepSpeed file is ever read.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from imagewright.config.training import TrainingConfig
from imagewright.errors import InputError, Problem
from imagewright.training.engine import WEIGHT, check_kinds, check_weights, split_state
from imagewright.training.optimizer import parameter_groups
from imagewright.training.world import World

MOMENTS = ("exp_avg", "exp_avg_sq")
STEP = "step"


class DeepSpeedStartError(InputError):
    """DeepSpeed cannot start on this machine."""


class DeepSpeedEngine:
    """One network sharded over all processes. Start them with torchrun; DeepSpeed's own launcher is not used."""

    def __init__(self, module: nn.Module, config: TrainingConfig, world: World) -> None:
        """Raises DeepSpeedStartError when DeepSpeed is missing or cannot compile its first op (it needs g++ and Python's headers)."""
        self.module, self.config, self.world = module, config, world
        # Without a GPU DeepSpeed guesses its accelerator from installed packages; a wrong guess fails late.
        os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
        try:
            import deepspeed  # type: ignore[import-untyped]
            from deepspeed import utils
        except ImportError as error:
            fix = "install the train extra, or set training.engine: torch"
            raise DeepSpeedStartError(Problem("training.engine", f"deepspeed cannot be imported: {error}", "deepspeed", fix)) from error
        self.fragments: Any = utils
        self.trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
        groups = parameter_groups(module.parameters(), config.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=0.0, betas=config.betas, eps=config.epsilon, fused=not config.offload)
        try:
            self.engine: Any = deepspeed.initialize(model=module, optimizer=optimizer, config=deepspeed_config(config))[0]
        except RuntimeError as error:
            fix = "install g++, ninja and Python's headers, or set training.engine: torch"
            raise DeepSpeedStartError(Problem("training.engine", f"deepspeed cannot start: {error}", "deepspeed", fix)) from error
        self.optimizer: Any = self.engine.optimizer

    def precision(self) -> AbstractContextManager[object]:
        """Tells DeepSpeed that a forward pass begins: methods call the network, not DeepSpeed's wrapper around it."""
        self.optimizer.clear_backward_seen_flag()
        return nullcontext()

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """DeepSpeed averages gradients over processes; the loss is already a share of the whole step, so the average is undone."""
        self.engine.set_gradient_accumulation_boundary(last)
        self.engine.backward(loss * self.world.size, scale_wrt_gas=False)

    def gradient_norm(self) -> float:
        """Global norm, from the shards. ZeRO marks a norm that is not finite by a negative value."""
        if hasattr(self.optimizer, "_get_norm_groups"):
            norms = self.optimizer._get_norm_groups()
            norm = float(torch.linalg.vector_norm(torch.stack([torch.as_tensor(value, dtype=torch.float32) for value in norms])))
            bad = any(float(value) < 0 for value in norms)
        else:
            norm = float(self.optimizer.scaled_global_norm())
            bad = norm < 0
        return float("nan") if bad else norm

    def step(self, learning_rate: float) -> None:
        """Clipping is DeepSpeed's, to the configured norm."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.engine.step()

    def discard(self) -> None:
        """Clears gradients and the shards reduced from them."""
        self.optimizer.zero_grad()
        if self.config.offload:
            self.optimizer.reset_cpu_buffers()
        elif self.config.zero_stage == 3:
            self.optimizer.averaged_gradients = {}
        else:
            for group in self.optimizer.averaged_gradients:
                self.optimizer.averaged_gradients[group] = None

    def shards(self) -> list[Tensor]:
        """This process's flat fp32 shards of the weights."""
        name = "fp32_partitioned_groups_flat" if self.config.zero_stage == 3 else "single_partition_of_fp32_groups"
        return list(getattr(self.optimizer, name))

    def masters(self) -> nn.Module:
        """Parameters that share the memory of the flat fp32 shards."""
        return nn.ParameterList([nn.Parameter(shard.data) for shard in self.shards()])

    def export_weights(self) -> dict[str, Tensor]:
        """Gathers every parameter, frozen ones included, one at a time."""
        whole = {name: self.gather(parameter) for name, parameter in self.module.named_parameters()}
        return whole if self.world.is_first else {}

    def gather(self, parameter: nn.Parameter) -> Tensor:
        """One whole fp32 parameter on the CPU."""
        if parameter.requires_grad:
            return keep(self.fragments.safe_get_full_fp32_param(parameter), self.world)
        import deepspeed

        with deepspeed.zero.GatheredParameters([parameter], enabled=hasattr(parameter, "ds_id")):
            return keep(parameter.detach(), self.world)

    def export_state(self) -> dict[str, Tensor]:
        """Weights, moments and step counts under TorchEngine's names."""
        state: dict[str, Tensor] = {}
        steps = self.step_count()
        if steps and self.config.zero_stage < 3:
            self.link_moments()
        for name, parameter in self.trained.items():
            state[f"{WEIGHT}.{name}"] = self.gather(parameter)
            for kind in MOMENTS if steps else ():
                state[f"{kind}.{name}"] = keep(self.fragments.safe_get_full_optimizer_state(parameter, kind), self.world)
            if steps:
                state[f"{STEP}.{name}"] = torch.tensor(float(steps))
        return state if self.world.is_first else {}

    def step_count(self) -> int:
        """Updates applied so far, from the shards' optimizer state."""
        counts = [int(values[STEP]) for values in self.optimizer.optimizer.state.values() if STEP in values]
        return max(counts, default=0)

    def import_weights(self, weights: dict[str, Tensor]) -> None:
        """Writes each process's part of every weight, in fp32 and as used in forward."""
        check_weights(weights, self.trained)
        for name, parameter in self.trained.items():
            self.write(parameter, weights[name])
        self.publish()

    def write(self, parameter: nn.Parameter, value: Tensor, kind: str = "") -> None:
        """Writes this process's part of a whole value into the fp32 weight, or into moment `kind` of it."""
        value = value.to(self.world.device, torch.float32)
        if self.config.zero_stage < 3:
            if kind:
                self.fragments.safe_set_full_optimizer_state(parameter, value, kind)
            else:
                self.fragments.safe_set_full_fp32_param(parameter, value)
            return
        # DeepSpeed's own call for whole values fails in ZeRO-3 where a parameter does not divide evenly; its shards are padded.
        size = self.fragments.safe_get_local_fp32_param(parameter).numel()
        part = nn.functional.pad(value.flatten(), (0, size * self.world.size - value.numel())).narrow(0, size * self.world.rank, size)
        if kind:
            self.fragments.safe_set_local_optimizer_state(parameter, part, kind)
        else:
            self.fragments.safe_set_local_fp32_param(parameter, part)

    def publish(self) -> None:
        """Copies the fp32 shards into the weights that forward passes use."""
        if self.config.zero_stage == 3:
            # As in DeepSpeed's own step: a parameter that is still whole would keep its old values.
            self.optimizer._partition_all_parameters()
            for group in range(len(self.optimizer.fp16_groups)):
                self.optimizer._reassign_or_swap_out_partitioned_parameters(group)
            if self.optimizer.persistent_parameters:  # small ones that ZeRO-3 keeps whole in every process
                self.optimizer.persistent_parameters[0].all_gather(self.optimizer.persistent_parameters)
            return
        self.optimizer.update_lp_params()

    def import_state(self, state: dict[str, Tensor]) -> None:
        """Weights, then moments; the shards' optimizer state is created where no step has been taken yet."""
        kinds = split_state(state)
        check_kinds(kinds, self.trained, self.config)
        self.import_weights(kinds.get(WEIGHT, {}))
        self.discard()
        if STEP not in kinds:
            self.optimizer.optimizer.state.clear()
            return
        self.create_moments(float(next(iter(kinds[STEP].values()))))
        for kind in MOMENTS:
            for name, parameter in self.trained.items():
                self.write(parameter, kinds[kind][name], kind)

    def create_moments(self, steps: float) -> None:
        """Optimizer state of every shard, and the views into it that DeepSpeed addresses parameters by."""
        inner = self.optimizer.optimizer
        for shard in self.shards():
            state = inner.state[shard]
            for kind in MOMENTS:
                state.setdefault(kind, torch.zeros_like(shard))
            state[STEP] = torch.tensor(steps, dtype=torch.float32, device=shard.device if not self.config.offload else "cpu")
        if self.config.zero_stage < 3:
            self.link_moments()

    def link_moments(self) -> None:
        """ZeRO-1 and 2 keep a view per parameter into each moment; they must show the present tensors."""
        for group, shard in enumerate(self.optimizer.single_partition_of_fp32_groups):
            state = self.optimizer.optimizer.state[shard]
            for parameter in self.optimizer.bit16_groups[group]:
                if parameter._hp_mapping is not None:
                    address = parameter._hp_mapping.hp_fragment_address
                    views = {kind: state[kind].narrow(0, address.start, address.numel) for kind in MOMENTS}
                    parameter._hp_mapping.optim_fragment = views


def keep(tensor: Tensor, world: World) -> Tensor:
    """The tensor on the CPU of the first process; the others let it go at once, so that gathering never holds the whole model twice."""
    return tensor.detach().to("cpu", torch.float32, copy=True).contiguous() if world.is_first else torch.empty(0)


def deepspeed_config(config: TrainingConfig) -> dict[str, Any]:
    """DeepSpeed's own settings. Batch sizes are nominal: packs are counted by the trainer, boundaries set by hand."""
    zero: dict[str, Any] = {"stage": config.zero_stage}
    if config.offload:
        zero["offload_optimizer"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "zero_optimization": zero,
        "bf16": {"enabled": config.precision == "bfloat16"},
        "communication_data_type": "fp32",
        "data_types": {"grad_accum_dtype": "fp32"},
        "gradient_clipping": config.max_grad_norm,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
