"""The results file: what the evaluation job hands to reports, comparisons, the gate and the lineage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from imagewright.config.base import Section
from imagewright.errors import InputError, Problem

RESULTS_NAME = "results.json"
MAX_RESULTS_BYTES = 64 << 20


class ResultsError(InputError):
    """A file that should hold evaluation results and does not."""


class Score(Section):
    """One number with the interval that bootstraps its prompts."""

    suite: str
    split: str
    """seen (every combination occurs in training) or compositional (held-out combinations)."""
    task: str
    """A task of the suite, or overall."""
    value: float
    low: float
    high: float
    num_prompts: int = Field(ge=1)
    num_images: int = Field(ge=1)


class JudgeCard(Section):
    """What the judge is worth: shown beside every score it gave."""

    name: str
    digest: str
    num_images: int
    ceiling: float
    """Ground-truth images, own prompts."""
    ceiling_through_vae: float | None
    """The same after encode-decode: no model behind this autoencoder can score higher. None where it was not measured."""
    floors: dict[str, float]
    ceiling_by_task: dict[str, float] = Field(default_factory=dict)
    ceiling_through_vae_by_task: dict[str, float] = Field(default_factory=dict)
    confusion: dict[str, dict[str, dict[str, int]]] = Field(default_factory=dict)
    failed: dict[str, int] = Field(default_factory=dict)
    """Verdicts that were none while the judge was tried, by reason; counted against it."""
    refused: str = ""
    """Why nothing was scored with this judge."""


class SuiteCard(Section):
    """One further suite: what was asked, by whom it was judged, and why it has no score where it has none."""

    suite: str
    source: str = ""
    """`generated`, or the SHA-256 of the benchmark's own prompt file."""
    prompts: dict[str, str] = Field(default_factory=dict)
    """Prompt id -> text."""
    judges: list[JudgeCard] = Field(default_factory=list)
    refused: dict[str, str] = Field(default_factory=dict)
    """Task, or `suite` for all of it -> why it was not scored."""
    ungated: dict[str, str] = Field(default_factory=dict)
    """Task -> why gates do not judge it, although it is scored and shown."""
    note: str = ""
    """What its figures may be compared with."""


class ModelResult(Section):
    """One row: a model, with or without the enhancer, under fixed sampler settings."""

    lineage: str
    """base, sft, dpo, turbo."""
    weights_digest: str
    revision: str = ""
    enhancer: bool = False
    num_steps: int
    guidance_scale: float
    shift: float
    seconds_per_image: float = 0.0
    """Sampling and decoding, one process, batched; 0 when every image came from the cache."""
    scores: list[Score]
    per_prompt: dict[str, float]
    """Prompt id -> share of its images judged right."""
    distribution: dict[str, float] = Field(default_factory=dict)
    """Only in earlier files: these figures are scores with intervals now, of the suites `distribution` and `distance`."""
    further: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Suite -> prompt id -> score, of the suites beside the composed scenes."""
    failed_verdicts: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Suite -> reason -> verdicts that were none; they are in no score."""
    enhancer_fallbacks: float = Field(default=0.0, ge=0, le=1)
    """Share of prompts the enhancer left as they were."""
    enhancer_rates: dict[str, float] = Field(default_factory=dict)
    """num_prompts, and pass_rate of first answers and fallback_rate, each with `_low` and `_high` of its 95% interval."""


class Results(Section):
    """Everything one evaluation measured."""

    schema_version: Literal[1] = 1
    judge: JudgeCard
    prompts: dict[str, str]
    """Prompt id -> text."""
    images_per_prompt: int
    resolution_px: int
    models: list[ModelResult]
    suites: list[SuiteCard] = Field(default_factory=list)
    grid: str = ""
    """File name of the fixed-seed grid: one row per prompt, one column per model."""
    grid_prompts: list[str] = Field(default_factory=list)

    def ungated(self, suite: str, task: str) -> str:
        """Why gates do not judge a task of a suite; empty when they do."""
        return next((card.ungated.get(task, "") for card in self.suites if card.suite == suite), "")

    def model(self, lineage: str, *, enhancer: bool = False) -> ModelResult | None:
        """The row of a model, if it was evaluated."""
        return next((row for row in self.models if row.lineage == lineage and row.enhancer == enhancer), None)


def write_results(results: Results, folder: Path) -> None:
    """Writes results.json."""
    (folder / RESULTS_NAME).write_text(json.dumps(results.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_results(path: Path) -> Results:
    """Reads results.json or the folder that holds it. Raises ResultsError when it is missing, too large or malformed."""
    path = path / RESULTS_NAME if path.is_dir() else path
    try:
        with path.open("rb") as file:
            text = file.read(MAX_RESULTS_BYTES + 1)
        if len(text) > MAX_RESULTS_BYTES:
            raise ResultsError(Problem("results", f"must be smaller than {MAX_RESULTS_BYTES} bytes", str(path), "evaluate again"))
        return Results.model_validate_json(text, strict=True)
    except (OSError, ValidationError) as error:
        raise ResultsError(Problem("results", f"cannot be read: {error}", str(path), "run evaluate-models again")) from error
