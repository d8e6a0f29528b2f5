"""Top-down data: high-demand domains as declarative files, selected from the curated manifest by rules, quality and style.

Source: ERNIE-Image report, section 3 (domains first, then curation for each, by visual quality and stylistic consistency).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from imagewright.config.base import Section
from imagewright.config.recipe import load_recipe
from imagewright.curation.rewriting import FORMS, PromptForm
from imagewright.data.manifest import ManifestRow
from imagewright.errors import InputError, Problem

TRAIN = "train"
HELD_OUT_SHARE = 0.2
"""Most samples that are only measured on, as a share of the quota."""
STYLE_EPS = 1e-6


class DomainError(InputError):
    """A domain that is not declared, or selects nothing."""


class DomainRules(Section):
    """Which rows belong to a domain; an empty list allows everything."""

    sources: tuple[str, ...] = ()
    """Values of the manifest's `source`."""
    styles: tuple[str, ...] = ()
    """Values of the manifest's `style`."""
    categories: tuple[str, ...] = ()
    """Categories, or beginnings of category paths."""
    tasks: tuple[str, ...] = ()
    """Tasks of composed scenes (`counting`, `position`, ...)."""
    min_scores: dict[str, float] = Field(default_factory=dict)
    """Smallest value of score columns, by name without `score_`."""


class Domain(Section):
    """One high-demand domain."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]{0,62}$")
    title: str
    """What people call it."""
    select: DomainRules = DomainRules()
    quota: int = Field(default=1000, ge=1)
    """Most samples to train on; where more qualify, the best looking are."""
    max_style_distance: float = Field(default=3.0, gt=0.0)
    """Samples farther than this from the domain's style are left out; 1 is the domain's own typical spread."""
    forms: tuple[PromptForm, ...] = FORMS
    """Prompt forms written for each image."""


def declared_domains() -> list[str]:
    """Names of the packaged domain files."""
    folder = resources.files("imagewright.curation") / "domain_files"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_domain(name: str) -> Domain:
    """Reads a packaged domain, or a file by its path ending in .yaml. Raises DomainError with what is known."""
    if name.endswith(".yaml"):
        domain: Domain = load_recipe(name, model=Domain)
        return domain
    if name not in declared_domains():
        raise DomainError(Problem("sft.domains", "no domain has this name", name, f"domains: {', '.join(declared_domains())}"))
    with resources.as_file(resources.files("imagewright.curation") / "domain_files" / f"{name}.yaml") as path:
        packaged: Domain = load_recipe(str(path), model=Domain)
    return packaged


def qualifies(domain: Domain, row: ManifestRow, scores: Mapping[str, float]) -> bool:
    """True when a row and its scores keep every rule of the domain."""
    rules = domain.select
    if rules.sources and row.source not in rules.sources:
        return False
    if rules.styles and row.style not in rules.styles:
        return False
    if rules.categories and not any(row.category == name or row.category.startswith(f"{name}/") for name in rules.categories):
        return False
    if rules.tasks and scene_task(row.scene) not in rules.tasks:
        return False
    return all(scores.get(name, float("-inf")) >= least for name, least in rules.min_scores.items())


def scene_task(scene: str) -> str:
    """Task of a composed scene; empty for other pictures."""
    if not scene:
        return ""
    spec: dict[str, Any] = json.loads(scene)
    return str(spec.get("task") or "")


def style_distances(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of each sample from its domain's style, in units of the domain's typical spread: [n, d] -> [n].

    Features are the mean and standard deviation of every latent channel: what instance statistics say of style and not of content
    (Huang and Belongie, 1703.06868). Each is standardised by the domain's median and median absolute deviation, so that a few strays
    do not move the centre; the distance is the root mean square over features.
    """
    centre = np.median(features, axis=0)
    spread = 1.4826 * np.median(np.abs(features - centre), axis=0) + STYLE_EPS
    result: NDArray[np.float64] = np.sqrt(np.mean(np.square((features - centre) / spread), axis=1))
    return result / max(float(np.median(result)), STYLE_EPS)


def look_of(scores: Mapping[str, float]) -> float:
    """How good a sample looks: the aesthetic model's score where curation had one (then every sample has), else the statistic."""
    return scores.get("aes", scores.get("aesthetic", 0.0))


def choose(
    domain: Domain,
    rows: Sequence[ManifestRow],
    scores: Mapping[str, Mapping[str, float]],
    features: Mapping[str, NDArray[np.float64]],
) -> tuple[list[ManifestRow], dict[str, int]]:
    """Rows of a domain, of every split given, and how many each rule left out.

    scores: sample key -> score. features: sample key -> style features [d].

    Raises DomainError when nothing is left to train on: a domain without data must not be trained silently.
    """
    matching = [row for row in rows if row.sample_key in features and qualifies(domain, row, scores.get(row.sample_key, {}))]
    counts = {"matching": len(matching), "off_style": 0, "over_quota": 0, "held_out": 0}
    if matching:
        distances = style_distances(np.stack([features[row.sample_key] for row in matching]))
        kept = [row for row, distance in zip(matching, distances.tolist(), strict=True) if distance <= domain.max_style_distance]
        counts["off_style"] = len(matching) - len(kept)
        kept.sort(key=lambda row: (-look_of(scores.get(row.sample_key, {})), row.sample_key))
        training = [row for row in kept if row.split == TRAIN]
        held_out = [row for row in kept if row.split != TRAIN][: round(domain.quota * HELD_OUT_SHARE)]
        counts["over_quota"] = max(0, len(training) - domain.quota)
        counts["held_out"] = len(held_out)
        matching = training[: domain.quota] + held_out
    if not any(row.split == TRAIN for row in matching):
        fix = f"loosen select or max_style_distance of the domain, or leave it out of sft.domains ({counts})"
        raise DomainError(Problem(f"sft.domains.{domain.name}", "selects no sample of the curated data", None, fix))
    return matching, {**counts, "chosen": len(matching)}
