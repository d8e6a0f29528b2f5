"""Section `dpo`: stabilised direct preference optimisation (ERNIE-Image report, arXiv 2605.25347, section on DPO)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from imagewright.config.base import Section
from imagewright.config.timesteps import TimestepConfig


class DpoConfig(Section):
    """L = -log sigmoid(-beta (Diff_policy - Diff_ref)) + lambda_win l_win + lambda_lose l_lose over pairs."""

    steps: int = Field(default=60, ge=1)
    """Optimizer steps; a few suffice, and more of them game the preference."""
    learning_rate: float = Field(default=3e-6, gt=0.0)
    """Peak rate. At 2e-5 a small model lost a fifth of its accuracy."""
    warmup_steps: int = Field(default=5, ge=0)
    """Steps of linear warm-up."""
    pairs_per_step: int = Field(default=16, ge=1)
    """Pairs of one optimizer step over all processes."""
    pairs_per_pack: int = Field(default=16, ge=1)
    """Pairs in one forward pass; both members of a pair are in the same one."""
    beta: float = Field(default=0.05, gt=0.0)
    """Strength of the preference term (printed in the report)."""
    lambda_win: float = Field(default=0.35, ge=0.0)
    """Anchor on the chosen sample's error (printed in the report)."""
    lambda_lose: float = Field(default=0.15, ge=0.0)
    """Anchor on the rejected sample's error (printed in the report)."""
    dpo_reduction: Literal["sum", "mean"] = "sum"
    """Reduction of the errors inside the preference term. `sum` is the report's squared norm read literally."""
    anchor_reduction: Literal["sum", "mean"] = "mean"
    """Reduction of the anchors."""
    timesteps: TimestepConfig = TimestepConfig()
    """Noise levels, one per pair."""
    weights: Literal["full", "lora"] = "full"
    """`full` keeps a frozen copy as reference; `lora` trains an adapter and its base is the reference."""
    rank: int = Field(default=16, ge=1, le=1024)
    """Rank of the adapter (lora only)."""
    alpha: float = Field(default=16.0, gt=0.0)
    """The adapter's scale is alpha / rank (lora only)."""
    held_out_fraction: float = Field(default=0.1, ge=0.0, le=0.5)
    """Share of the prompts whose pairs are never trained on: the implicit accuracy and the drifts are measured there."""
    check_every_steps: int = Field(default=10, ge=1)
    """Steps between health checks; every checkpoint is taken right after one that passed."""
    check_levels: int = Field(default=4, ge=1, le=32)
    """Noise levels of a health check: the middles of this many equal bins of (0, 1)."""
    max_chosen_drift: float = Field(default=0.05, gt=0.0)
    """Relative change of the chosen error against the reference beyond which training stops."""
    max_joint_drift: float = Field(default=0.02, gt=0.0)
    """Both errors risen, or both fallen, by more than this share: the model leaves the data, not the rejected samples. Stops too."""

    @model_validator(mode="after")
    def check_preference(self) -> Self:
        """Refuses settings that would push the rejected error down whatever the preference says, and an overlong warm-up."""
        if self.dpo_reduction == self.anchor_reduction and self.beta <= self.lambda_lose:
            raise ValueError(
                f"dpo_reduction and anchor_reduction are both {self.dpo_reduction}: the preference's pull on the rejected error is at most "
                f"beta {self.beta}, below lambda_lose {self.lambda_lose}, so no preference is learned; use sum and mean"
            )
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} must not exceed steps {self.steps}")
        return self
