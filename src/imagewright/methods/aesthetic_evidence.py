"""Paints what a generator gets right and wrong, and holds the aesthetic model against its exact shape integrity.

Pictures: VAE reconstructions of held-out scenes, samples of few and of all steps, and samples of an earlier model of the lineage.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from imagewright.config.aes import AesConfig
from imagewright.config.preferences import PreferencesConfig
from imagewright.data.buckets import Bucket
from imagewright.data.pixels import kept_rows, read_pixels
from imagewright.errors import InputError, Problem
from imagewright.evaluation.aes_agreement import EVIDENCE_NAME, RECONSTRUCTIONS, AesEvidence, shape_integrity, weigh_evidence
from imagewright.evaluation.aes_benchmark_run import table
from imagewright.evaluation.aes_quality import STATISTICS, StatisticScorer
from imagewright.evaluation.generation import Generator, SamplerSettings, paint
from imagewright.evaluation.suites import SuitePrompt, shuffled, suite_prompt
from imagewright.models.aesthetic import AestheticScorer
from imagewright.models.vae_training import reconstruct

TEST_SPLITS = ("validation", "holdout_compositional")
FALLBACK_BASELINE = "sharpness"
MAX_METRICS_BYTES = 8 << 20

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class EvidenceRun:
    """Everything one measurement is made from. early: an earlier model of the lineage, None when there is none."""

    aes: AesConfig
    preferences: PreferencesConfig
    curated: Path
    scorer: AestheticScorer
    baseline: StatisticScorer
    aes_digest: str
    generator: Generator
    generator_digest: str
    early: Generator | None = None
    seed: int = 0


def measure_evidence(settings: EvidenceRun, output: Path) -> AesEvidence:
    """Writes `evidence.json` and `report.html` into `output`. Raises InputError when `curated` holds no held-out scene."""
    measured = {}
    for name, images, prompts in pictures(settings):
        integrity = [shape_integrity(image, prompt.said) for image, prompt in zip(images, prompts, strict=True)]
        measured[name] = (settings.scorer.score(images).tolist(), settings.baseline.score(images).tolist(), integrity)
    evidence = weigh_evidence(
        measured,
        aes_digest=settings.aes_digest,
        generator_digest=settings.generator_digest,
        origin=settings.scorer.origin,
        baseline=settings.baseline.name,
        seed=settings.seed,
    )
    (output / EVIDENCE_NAME).write_text(evidence.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (output / "report.html").write_text(page(evidence), encoding="utf-8")
    return evidence


def pictures(settings: EvidenceRun) -> Iterator[tuple[str, Pixels, list[SuitePrompt]]]:
    """(kind, images [n, H, W, 3], what each should show)."""
    config, side = settings.preferences, settings.preferences.resolution_px
    rows = shuffled([row for row in kept_rows(settings.curated, TEST_SPLITS) if row.scene], settings.seed)
    named = {row.sample_key: prompt for row in rows if (prompt := suite_prompt(row, row.split)) is not None}
    rows = [row for row in rows if row.sample_key in named][: settings.aes.evidence_prompts]
    found = list(read_pixels(settings.curated, rows, Bucket(side, side), Counter()))
    if not found:
        raise InputError(Problem("curated", "must hold held-out scenes with English captions", 0, "set data.scenes.holdout_fraction"))
    prompts = [named[row.sample_key] for row, _ in found]
    clean = torch.from_numpy(np.stack([image for _, image in found]).transpose(0, 3, 1, 2).copy())
    yield RECONSTRUCTIONS, channels_last(reconstruct(settings.generator.vae, clean, config.batch_size)), prompts
    for steps in sorted({*settings.aes.evidence_low_steps, config.num_steps}):
        yield f"samples_{steps}_steps", sampled(settings, settings.generator, prompts, steps), prompts
    if settings.early is not None:
        yield f"early_model_{config.num_steps}_steps", sampled(settings, settings.early, prompts, config.num_steps), prompts


def sampled(settings: EvidenceRun, generator: Generator, prompts: Sequence[SuitePrompt], num_steps: int) -> Pixels:
    """One sample [H, W, 3] of each prompt."""
    config = settings.preferences
    sampler = SamplerSettings(num_steps, config.guidance_scale, config.shift, config.resolution_px)
    painted = []
    for start in range(0, len(prompts), config.batch_size):
        texts = [prompt.text for prompt in prompts[start : start + config.batch_size]]
        painted.append(paint(generator, texts, [settings.seed + start + place for place in range(len(texts))], sampler))
    return np.concatenate(painted)


def channels_last(images: torch.Tensor) -> Pixels:
    """uint8 [n, 3, H, W] -> [n, H, W, 3]."""
    return np.ascontiguousarray(images.numpy().transpose(0, 2, 3, 1))


def baseline_of(payload: Path) -> StatisticScorer:
    """The single statistic that the payload of `train-aesthetic` names as its baseline; sharpness when it names none."""
    path = payload / "metrics.json"
    if path.is_file() and path.stat().st_size <= MAX_METRICS_BYTES:
        named = json.loads(path.read_text(encoding="utf-8")).get("baseline", {})
        if named.get("statistic") in STATISTICS:
            return StatisticScorer(named["statistic"], -1.0 if named.get("sign") == -1 else 1.0)
    return StatisticScorer(FALLBACK_BASELINE)


def metrics_of(evidence: AesEvidence) -> dict[str, float]:
    """Metrics of a measurement, named as the run logs them."""
    metrics = {"aesthetic/may_rank": float(evidence.may_rank)}
    for name, part in {"generator": evidence.overall, "generator_samples": evidence.samples, **evidence.sources}.items():
        metrics[f"aesthetic/{name}_integrity"] = part.mean_integrity
        if part.model is not None:
            metrics |= {f"aesthetic/{name}_srcc": part.model.srcc, f"aesthetic/{name}_srcc_low": part.model.low}
            metrics[f"aesthetic/{name}_srcc_high"] = part.model.high
        if part.baseline is not None:
            metrics[f"aesthetic/{name}_baseline_srcc"] = part.baseline.srcc
    return metrics


def page(evidence: AesEvidence) -> str:
    """The report, one HTML page without outside references."""
    parts = {"all pictures": evidence.overall, "samples": evidence.samples, **evidence.sources}
    rows = [
        [name, str(part.model or "no variation"), str(part.baseline or "no variation"), f"{part.mean_integrity:.3f}"]
        for name, part in parts.items()
    ]
    verdict = "may rank preference pairs" if evidence.may_rank else "may not rank preference pairs"
    names = ["pictures", "SRCC with shape integrity [95%]", f"baseline: {evidence.baseline}", "mean integrity"]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Aesthetic evidence</title>"
        f"<h1>Trained on {escape(evidence.origin)} ratings; {verdict}</h1>"
        "<p>The rule: the intervals of all pictures and of samples alone lie above zero.</p>"
        f"{table(names, rows)}</html>\n"
    )
