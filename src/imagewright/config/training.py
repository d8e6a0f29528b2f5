"""Section `training`: what every method shares - engine, optimizer, EMA, checkpoints, guards."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from imagewright.config.base import Section
from imagewright.config.sample_grid import SampleGridConfig

OptimizerName = Literal["adamw", "adamw_8bit", "adafactor", "muon"]


class TrainingConfig(Section):
    """How any method is trained. Steps, batches and learning rates belong to the method's own section."""

    engine: Literal["torch", "deepspeed"] = "torch"
    """`torch`: every process holds the whole model. `deepspeed`: ZeRO shards it over the processes."""
    num_processes: int = Field(default=1, ge=1, le=16)
    """Processes started on this machine, one per GPU; 1 trains in the job's own process. Under torchrun this is ignored."""
    zero_stage: Literal[1, 2, 3] = 2
    """ZeRO stage of the deepspeed engine: 1 shards optimizer state, 2 gradients too, 3 weights too."""
    offload: bool = False
    """Keeps optimizer state in host memory (deepspeed engine)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of forward and backward; master weights and optimizer state are fp32 in both."""
    optimizer: OptimizerName = "adamw"
    """State per weight: `adamw` 8 bytes, `adamw_8bit` 2 (moments in 8 bits), `adafactor` almost none (row and column means of squares).
    `muon` orthogonalises the updates of the matrices inside the blocks (4 bytes a weight) and runs AdamW on every other parameter."""
    muon_learning_rate_ratio: float = Field(default=1.0, gt=0.0, le=100.0)
    """Muon's learning rate over that of the schedule. Its updates are scaled by 0.2 sqrt(longer side) (`match_rms_adamw`), which gives
    them the size of AdamW's, so that 1 reuses a learning rate tuned for AdamW (Liu et al. 2502.16982, section 2.2)."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of AdamW's moments; 0.95 forgets a bad gradient sooner than 0.999, usual for large transformers."""
    epsilon: float = Field(default=1e-8, gt=0.0)
    """Added to AdamW's denominator."""
    weight_decay: float = Field(default=0.001, ge=0.0)
    """Decoupled weight decay of matrices; norms and biases are not decayed (0.001 in Qwen-Image-2.0's recipe)."""
    max_grad_norm: float = Field(default=1.0, gt=0.0)
    """Gradients are scaled down to this global norm."""
    ema_decay: float = Field(default=0.999, ge=0.0, lt=1.0)
    """Decay of the exponential moving average of the weights; 0 keeps none."""
    activation_checkpointing: Literal["none", "selective", "full"] = "none"
    """Blocks recomputed in the backward pass: none, every second one, all."""
    checkpoint_every_steps: int = Field(default=100, ge=1)
    """Steps between checkpoints; the last step is always saved."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Newest checkpoints kept; the best one is kept besides."""
    log_every_steps: int = Field(default=10, ge=1)
    """Steps between points of the training curves."""
    validate_every_steps: int = Field(default=100, ge=0)
    """Steps between validations; 0 validates at the end only."""
    sample_grid: SampleGridConfig = SampleGridConfig()
    """Pictures drawn while pretraining and fine-tuning."""
    spike_factor: float = Field(default=10.0, ge=0.0)
    """A loss or gradient norm this many times the recent median is a spike: the update is skipped; 0 checks for NaN only."""
    spike_window_steps: int = Field(default=64, ge=4)
    """Steps the median is taken over; no spike is called before the window is a quarter full."""
    max_skipped_steps: int = Field(default=3, ge=0)
    """Updates skipped in a row before the run rolls back to its last checkpoint (data already seen is not repeated)."""
    max_rollbacks: int = Field(default=3, ge=0)
    """Roll-backs before the run gives up."""
    watchdog_seconds: float = Field(default=0.0, ge=0.0)
    """A process silent for this long is named and the run ends, to be restarted; 0 switches the watchdog off."""
    peak_tflops: float = Field(default=0.0, ge=0.0)
    """Peak bf16 TFLOP/s of one device for `train/mfu`; 0 logs no MFU."""

    @model_validator(mode="after")
    def check_engine(self) -> Self:
        """Refuses settings the chosen engine does not have."""
        if self.engine == "torch" and self.offload:
            raise ValueError("offload needs engine: deepspeed")
        if self.engine == "deepspeed" and self.optimizer != "adamw":
            raise ValueError(f"optimizer {self.optimizer} needs engine: torch; ZeRO shards AdamW's moments alone, and can offload them")
        if self.optimizer != "muon" and self.muon_learning_rate_ratio != 1.0:
            raise ValueError(f"muon_learning_rate_ratio needs optimizer: muon; {self.optimizer} takes its rate from the schedule alone")
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ValueError("betas must lie in [0, 1)")
        return self
