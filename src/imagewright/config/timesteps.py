"""How training picks noise levels; pretraining, SFT and DPO sections embed it as a field."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from imagewright.config.base import Section


class TimestepConfig(Section):
    """Distribution of training noise levels. ERNIE-Image's own is unpublished: logit-normal (SD3, 2403.03206) with Flux's shift rule."""

    distribution: Literal["logit_normal", "uniform"] = "logit_normal"
    """Law of the unshifted noise level in (0, 1)."""
    mean: float = Field(default=0.0, ge=-10.0, le=10.0)
    """Mean of the logit (logit_normal only)."""
    std: float = Field(default=1.0, gt=0.0, le=10.0)
    """Standard deviation of the logit (logit_normal only)."""
    shift_rule: Literal["resolution", "static"] = "resolution"
    """`resolution`: shift e^mu with mu linear in the number of image tokens; `static`: one shift for every size."""
    shift: float = Field(default=1.0, gt=0.0, le=100.0)
    """The static shift (1 = none; the released scheduler samples with 4)."""
    min_tokens: int = Field(default=256, ge=1)
    """Image tokens at which mu is `min_mu` (256 = a 256 px image)."""
    max_tokens: int = Field(default=4096, ge=2)
    """Image tokens at which mu is `max_mu` (4096 = a 1024 px image)."""
    min_mu: float = Field(default=0.5, ge=-10.0, le=10.0)
    """Log of the shift at `min_tokens`."""
    max_mu: float = Field(default=1.15, ge=-10.0, le=10.0)
    """Log of the shift at `max_tokens`."""

    @model_validator(mode="after")
    def check_tokens(self) -> Self:
        """Refuses an empty token range."""
        if self.min_tokens >= self.max_tokens:
            raise ValueError(f"min_tokens {self.min_tokens} must be below max_tokens {self.max_tokens}")
        return self
