"""How training batches are made from encoded samples: part of every method that trains on latents."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from imagewright.config.base import Section


class BatchingConfig(Section):
    """Token budgets and what is drawn from the data."""

    pack_tokens: int = Field(default=4096, ge=16)
    """Budget of one pack (image and text tokens): what one rank holds in memory at a time."""
    packs_per_step: int = Field(default=2, ge=1, le=65536)
    """Packs of one optimizer step over all ranks and accumulation steps; a multiple of the world size."""
    lookahead: int = Field(default=2048, ge=1, le=1 << 20)
    """Drawn entries packed together: larger fills packs better and moves samples further from the drawn order."""
    caption_dropout: float = Field(default=0.1, ge=0.0, le=1.0)
    """Share of entries trained with the encoded empty prompt, which guidance needs (0.1 in Qwen-Image-2.0's recipe)."""
    caption_forms: dict[str, float] = Field(default_factory=dict)
    """Weight of each caption form; forms not named weigh 1, a form of weight 0 is not used where the sample has another."""
    category_power: float = Field(default=1.0, ge=0.0, le=1.0)
    """Exponent on a category's total sampling weight: 1 keeps the manifest's shares, 0 makes all categories equal."""

    @model_validator(mode="after")
    def check_forms(self) -> Self:
        """Refuses negative weights."""
        if any(weight < 0 for weight in self.caption_forms.values()):
            raise ValueError("caption_forms: weights must not be negative")
        return self
