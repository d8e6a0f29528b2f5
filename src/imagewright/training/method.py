"""The contract between the trainer and what is trained: pretrain, SFT, DPO, distillation, enhancer and aesthetic model are methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn


class TrainingBatch(Protocol):
    """What the trainer must know of a micro-batch."""

    @property
    def num_samples(self) -> int:
        """Samples that count in the loss (0 is allowed)."""

    @property
    def num_tokens(self) -> int:
        """Tokens processed, for throughput."""


class BatchSource(Protocol):
    """Endless optimizer steps. `data.packed_loader.PackedLoader` is one."""

    def next_step(self) -> list[Any]:
        """Micro-batches of this process for the next optimizer step, at least one."""

    def state(self) -> dict[str, int]:
        """Position after the last step handed out."""

    def load_state(self, state: dict[str, int]) -> None:
        """Continues from a position."""


@dataclass(frozen=True)
class StepOutput:
    """Result of one forward pass.

    losses: network name -> scalar, the mean over the micro-batch's samples of the per-sample mean. A network without a loss is not
    updated in this step. metrics: scalars, averaged over the samples of the step. The trainer weights both by `batch.num_samples` over
    the sample count of the whole optimizer step, so packs and ranks with more samples count for more.
    """

    losses: Mapping[str, Tensor]
    metrics: Mapping[str, float | Tensor] = field(default_factory=dict)


class Method(Protocol):
    """A way to train. `networks` are trained (one engine each); whatever else a method holds (references, teachers) is its own."""

    def networks(self) -> dict[str, nn.Module]:
        """Trainable networks by name; parameters with requires_grad False are left alone."""

    def train_step(self, batch: Any, step: int) -> StepOutput:
        """Forward pass on one micro-batch of optimizer step `step`. Random numbers must depend on the batch and step only."""

    def validate(self, step: int) -> dict[str, float]:
        """Validation metrics with fixed seeds, `validation/loss` among them where it has one; {} for none. Called by every process."""

    def paint(self, step: int) -> Path | None:
        """Draws what the networks can paint after `step` steps, with fixed seeds: a PNG, or None. Called by every process."""

    def state(self) -> dict[str, Tensor]:
        """Tensors beyond the networks' weights that a resumed run needs; {} for none."""

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes back what `state` gave."""

    def step_flops(self, batch: Any) -> float:
        """Floating-point operations of forward and backward on one micro-batch, for MFU; 0 when unknown."""


class PlainMethod:
    """Defaults of a method that keeps no extra state, validates nothing and paints nothing; inherit and override what differs."""

    def validate(self, step: int) -> dict[str, float]:
        """No validation."""
        return {}

    def paint(self, step: int) -> Path | None:
        """No pictures."""
        return None

    def state(self) -> dict[str, Tensor]:
        """No extra state."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Nothing to take back."""
        assert not state, "this method saved no state"

    def step_flops(self, batch: Any) -> float:
        """Unknown."""
        return 0.0
