"""Runs any scorer on an aesthetic benchmark: agreement with intervals, bias per category, and what fools it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imagewright.errors import InputError, Problem
from imagewright.evaluation.aes_benchmark import AesBenchmark
from imagewright.evaluation.aes_quality import Scorer
from imagewright.evaluation.aes_stress import STRESSES
from imagewright.evaluation.rank_statistics import MIN_SAMPLES, RESAMPLES, Agreement, Estimate, agreement

RESULTS_NAME, PAGE_NAME = "results.json", "report.html"
BATCH_IMAGES = 64
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class CategoryResult:
    """agreement is None for fewer than 3 images or one tier only. bias: tiers by which the scorer rates the category too high."""

    category: str
    num: int
    agreement: Agreement | None
    bias: Estimate


@dataclass(frozen=True)
class StressResult:
    """change: mean score difference in standard deviations of the benchmark's scores. raised: share of images whose score rose."""

    name: str
    change: Estimate
    raised: float

    @property
    def fools(self) -> bool:
        """Whether the change, which makes no picture better, surely raises the score."""
        return self.change.low > 0


@dataclass(frozen=True)
class BenchmarkResult:
    """One scorer on one benchmark. scorer_origin: what the scorer was trained on, `simulated`, `human` or `none`."""

    benchmark: str
    origin: str
    scorer: str
    scorer_origin: str
    overall: Agreement
    categories: tuple[CategoryResult, ...]
    stresses: tuple[StressResult, ...]

    def to_dict(self) -> dict[str, object]:
        """As JSON values."""
        return asdict(self) | {"fooled_by": [found.name for found in self.stresses if found.fools]}


def run_benchmark(benchmark: AesBenchmark, scorer: Scorer, name: str, *, seed: int = 0, resamples: int = RESAMPLES) -> BenchmarkResult:
    """Scores every image once as it is and once per stress. Raises InputError for scores that are not finite."""
    images = [benchmark.image(row.key) for row in benchmark.rows]
    tiers = np.asarray([row.tier for row in benchmark.rows])
    scores = score_all(scorer, images)
    overall = agreement(scores, tiers, seed=seed, resamples=resamples)
    excess = in_tiers(scores, tiers) - tiers
    categories = []
    for category in sorted({row.category for row in benchmark.rows}):
        chosen = np.asarray([row.category == category for row in benchmark.rows])
        orders = chosen.sum() >= MIN_SAMPLES and np.ptp(tiers[chosen]) > 0
        found = agreement(scores[chosen], tiers[chosen], seed=seed, resamples=resamples) if orders else None
        categories.append(CategoryResult(category, int(chosen.sum()), found, mean_estimate(excess[chosen], seed, resamples)))
    spread = float(scores.std()) or 1.0
    stresses = []
    for stress, change in STRESSES.items():
        difference = (score_all(scorer, [change(image) for image in images]) - scores) / spread
        stresses.append(StressResult(stress, mean_estimate(difference, seed, resamples), float((difference > 0).mean())))
    origin = str(getattr(scorer, "origin", "none"))
    return BenchmarkResult(benchmark.about.name, benchmark.about.origin, name, origin, overall, tuple(categories), tuple(stresses))


def score_all(scorer: Scorer, images: Sequence[NDArray[np.uint8]]) -> Scores:
    """Scores [n] of images [H, W, 3] of any sizes, in batches of one size. Raises InputError for scores that are not finite."""
    places: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for place, image in enumerate(images):
        places[image.shape].append(place)
    scores = np.zeros(len(images))
    for group in places.values():
        for start in range(0, len(group), BATCH_IMAGES):
            chosen = group[start : start + BATCH_IMAGES]
            scores[chosen] = scorer.score(np.stack([images[place] for place in chosen]))
    bad = int((~np.isfinite(scores)).sum())
    if bad:
        raise InputError(Problem("scorer", "must give finite scores", f"{bad} of {len(scores)} are not", "train the model again"))
    return scores


def in_tiers(scores: Scores, tiers: Scores) -> Scores:
    """Scores [n] on the tiers' scale by mean and spread, so that scorers of any scale have comparable biases."""
    spread = float(scores.std())
    scale = float(tiers.std()) / spread if spread > 1e-12 else 0.0
    return np.asarray(tiers.mean() + (scores - scores.mean()) * scale, dtype=np.float64)


def mean_estimate(values: Scores, seed: int, resamples: int) -> Estimate:
    """Mean [n] with its 95% bootstrap interval."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (resamples, len(values)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(float(values.mean()), float(low), float(high))


def write_result(folder: Path, results: Sequence[BenchmarkResult]) -> Path:
    """Writes `results.json` and `report.html` for scorers side by side; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULTS_NAME).write_text(json.dumps([found.to_dict() for found in results], indent=2) + "\n", encoding="utf-8")
    page = folder / PAGE_NAME
    page.write_text(html(results), encoding="utf-8")
    return page


def html(results: Sequence[BenchmarkResult]) -> str:
    """One page without outside references."""
    first = results[0]
    note = ""
    if "simulated" in {first.origin, *(found.scorer_origin for found in results)}:
        note = "<p class=note>Ratings or scorers here are simulated: the figures say how well known damage is recognised, not taste.</p>"
    style = (
        "body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}table{border-collapse:collapse}"
        "td,th{padding:.3rem .8rem;border-bottom:1px solid #d5dbe1;text-align:left}"
        ".note{background:#fff4d6;padding:.6rem 1rem;border-left:4px solid #c98a00}"
    )
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(first.benchmark)}</title><style>{style}</style>",
        f"<h1>{escape(first.benchmark)}</h1>{note}<h2>Agreement</h2>",
        table(
            ["scorer", "trained on", "SRCC [95%]", "PLCC [95%]", "images"],
            [[r.scorer, r.scorer_origin, str(r.overall.srcc), str(r.overall.plcc), str(r.overall.num)] for r in results],
        ),
        "<h2>By category</h2><p>Bias: tiers by which a scorer rates the category too high.</p>",
        table(
            ["scorer", "category", "images", "SRCC [95%]", "bias [95%]"],
            [
                [r.scorer, c.category, str(c.num), str(c.agreement.srcc) if c.agreement else "too few", str(c.bias)]
                for r in results
                for c in r.categories
            ],
        ),
        "<h2>What fools it</h2><p>Mean change of the score in standard deviations; a rise means that the scorer is fooled.</p>",
        table(
            ["scorer", "stress", "change [95%]", "images raised", ""],
            [[r.scorer, s.name, str(s.change), f"{s.raised:.0%}", "fooled" if s.fools else ""] for r in results for s in r.stresses],
        ),
        "</html>\n",
    ]
    return "".join(parts)


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table."""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
