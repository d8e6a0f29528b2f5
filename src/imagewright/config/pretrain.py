"""Section `pretrain`: the stages of base training, from small images to large ones."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from imagewright.config.base import Section
from imagewright.config.batching import BatchingConfig
from imagewright.config.timesteps import TimestepConfig
from imagewright.config.training import OptimizerName, TrainingConfig


class PretrainStage(Section):
    """One stretch of training at one resolution, every aspect ratio included."""

    resolution: int = Field(default=0, ge=0, le=8192)
    """Side in pixels of a square image of the stage's area; samples near this area are used, of any aspect. 0 uses every sample."""
    steps: int = Field(default=100, ge=1)
    """Optimizer steps of the stage."""
    learning_rate: float = Field(default=1e-4, gt=0.0)
    """Peak rate (1e-4 at 256 and 512, 2e-5 above in Qwen-Image-2.0's recipe)."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps of linear warm-up at the start of the stage."""
    decay: Literal["constant", "cosine", "linear"] = "constant"
    """How the rate falls after the warm-up."""
    final_learning_rate_ratio: float = Field(default=0.1, ge=0.0, le=1.0)
    """Rate at the end of the stage as a share of the peak, where it decays."""
    batching: BatchingConfig = BatchingConfig()
    """Token budgets of the stage."""
    timesteps: TimestepConfig = TimestepConfig()
    """Noise levels of the stage, the shift included."""

    @model_validator(mode="after")
    def check_warmup(self) -> Self:
        """Refuses a warm-up longer than the stage."""
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} must not exceed steps {self.steps}")
        return self


class PretrainConfig(Section):
    """Base training: flow matching over stages of growing resolution."""

    stages: tuple[PretrainStage, ...] = Field(default=(PretrainStage(),), min_length=1, max_length=32)
    """Run in order, each from the weights and optimizer state of the one before."""
    optimizer: OptimizerName | None = None
    """Optimizer of base training; none takes `training.optimizer`, as every other method does."""
    muon_learning_rate_ratio: float | None = Field(default=None, gt=0.0, le=100.0)
    """Muon's learning rate over that of the stages; none takes `training.muon_learning_rate_ratio`."""
    validation_samples: int = Field(default=16, ge=0, le=4096)
    """Samples held out of training for the validation loss (at most a tenth of the data)."""
    validation_bins: int = Field(default=4, ge=1, le=32)
    """Noise levels of the validation loss: the middles of this many equal bins of (0, 1), each a curve of its own."""

    @property
    def total_steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def training_of(self, training: TrainingConfig) -> TrainingConfig:
        """`training` with the optimizer of base training. Raises ValueError when the engine cannot run it."""
        own = {"optimizer": self.optimizer, "muon_learning_rate_ratio": self.muon_learning_rate_ratio}
        return TrainingConfig.model_validate(training.model_dump() | {name: value for name, value in own.items() if value is not None})
