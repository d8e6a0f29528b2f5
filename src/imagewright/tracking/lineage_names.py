"""Names of the model lineage and of the aliases that point into it; imports nothing heavy."""

from __future__ import annotations

from typing import Literal, get_args

from imagewright.errors import InputError, Problem

LineageName = Literal["base", "sft", "dpo", "turbo", "enhancer", "aes"]
LINEAGE_NAMES: tuple[str, ...] = get_args(LineageName)
IMAGE_MODELS = ("base", "sft", "dpo", "turbo")
"""Models that paint, in the order in which each is made from the one before."""
CHAMPION, CHALLENGER = "champion", "challenger"


class ModelError(InputError):
    """A model reference that names nothing, or cannot."""


def check_model(model: str) -> None:
    """Raises ModelError for a name outside the lineage."""
    if model not in LINEAGE_NAMES:
        raise ModelError(Problem("model", "must be one of the lineage names", model, f"use {', '.join(LINEAGE_NAMES)}"))
