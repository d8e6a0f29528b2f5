"""Settings of ingest: which sources make the raw pool, and how large each is."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from imagewright.config.base import Section

Language = Literal["en", "zh"]
SceneTask = Literal["single", "two", "counting", "colors", "position", "color_attr"]


class ScenesConfig(Section):
    """Composed scenes with exact ground truth."""

    num_samples: int = Field(default=400, ge=0, le=100_000_000)
    """Scenes over all splits."""
    size_px: int = Field(default=32, ge=16, le=2048)
    """Side of the square picture."""
    tasks: tuple[SceneTask, ...] = Field(default=("single", "two", "counting", "colors", "position", "color_attr"), min_length=1)
    """Tasks drawn, in equal shares."""
    languages: tuple[Language, ...] = Field(default=("en", "zh"), min_length=1)
    """Languages of the captions."""
    holdout_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Share of scenes that show a held-out combination (split holdout_compositional)."""
    validation_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Share of in-distribution scenes kept out of training (split validation)."""

    @model_validator(mode="after")
    def _fractions_leave_training(self) -> ScenesConfig:
        if self.holdout_fraction + self.validation_fraction >= 1:
            raise ValueError("holdout_fraction + validation_fraction must stay below 1, or nothing is left to train on")
        if self.holdout_fraction > 0 and set(self.tasks) <= {"single", "two"}:
            raise ValueError("tasks single and two name no held-out combination; add another task or set holdout_fraction to 0")
        return self


class DataConfig(Section):
    """The raw pool: sources and shards."""

    scenes: ScenesConfig = ScenesConfig()
    """Procedurally composed scenes."""
    samples_per_shard: int = Field(default=1024, ge=1, le=1_000_000)
    """Samples in one tar."""
