"""Runs the method `aesthetic` from curated images to a scorer: simulated ratings, training, calibration, held-out figures, card."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from imagewright.annotation.simulated import ORIGIN
from imagewright.annotation.simulated_ratings import DamagedSet, Ratings, damage_pictures, rate_by_tournament, write_ratings
from imagewright.config.aes import AesConfig
from imagewright.config.training import TrainingConfig
from imagewright.data.pixels import load_pixels
from imagewright.evaluation.aes_quality import StatisticScorer, agreement_by_kind, best_statistic, flat
from imagewright.evaluation.rank_statistics import Agreement, agreement
from imagewright.jobs.job import Outcome
from imagewright.methods.aesthetic import SCORER, AestheticMethod, BalancedPairLoader, RatedPairs
from imagewright.methods.aesthetic_report import Provenance, simulated_provenance, write_card, write_report
from imagewright.models.aesthetic import AES_FOLDER, AestheticScorer, Calibration, Ensemble, build_network, fit_calibration, save_scorer
from imagewright.models.aesthetic import to_network_input as to_input
from imagewright.tracking.job_run import JobRun
from imagewright.training.archive import ArchivePlace
from imagewright.training.hooks import CurveHook, Hook, ProgressHook
from imagewright.training.schedule import Segment, learning_rate
from imagewright.training.trainer import Trainer, TrainingPlan
from imagewright.training.world import World

TRAIN_SPLITS = ("train",)
TEST_SPLITS = ("holdout_concept", "holdout_compositional", "validation")
TEST_SEED = 0x5EED
"""Added to the run's seed so that test damage is drawn from another stream."""


@dataclass(frozen=True)
class AestheticRun:
    """Everything one run is made from."""

    aes: AesConfig
    training: TrainingConfig
    curated: Path
    curated_digest: str
    work: Path
    seed: int = 0
    archive: ArchivePlace | None = None
    """Where checkpoints are copied to."""
    votes_digest: str = ""
    """Payload of people's votes, where there is one."""


@dataclass(frozen=True)
class Figures:
    """Agreement of model and baseline with known quality on one test set."""

    model: Agreement
    baseline: Agreement
    by_kind: dict[str, Agreement]


def train_aesthetic(settings: AestheticRun, output: Path, run: JobRun, console: Console | None = None) -> Outcome:
    """Trains on simulated ratings and writes `aes/`, `annotations/`, `metrics.json` and `report.html` into `output`."""
    config, seed = settings.aes, settings.seed
    pool = load_pixels(settings.curated, side_px=config.side_px, splits=TRAIN_SPLITS, limit=config.train_images, seed=seed)
    damaged = damage_pictures(pool, config, config.seen_damages, seed)
    ratings = rate_by_tournament(damaged, config, seed)
    write_ratings(output / "annotations", damaged, ratings)
    network = build_network_with_seed(config, seed)
    training, validation = split_images(len(damaged.keys), config.validation_share, seed)
    train(settings, network, rated_pairs(damaged, ratings, training), run, console)
    raw = AestheticScorer(network, config, Calibration(), ORIGIN).score(damaged.images[validation])
    scorer = AestheticScorer(network, config, fit_calibration(raw, ratings.scores[validation]), ORIGIN)
    save_scorer(scorer, output / AES_FOLDER)
    baseline = best_statistic(damaged.images[training], ratings.scores[training])
    figures, provenance = measure(settings, scorer, baseline), simulated_provenance(config, ratings)
    metrics, report = write_results(settings, output, run, scorer, figures, baseline, provenance, damaged.images)
    counts = {
        "num_in": len(pool.rows) + sum(pool.dropped.values()),
        "num_kept": len(pool.rows),
        "num_dropped": sum(pool.dropped.values()),
        "num_simulated_comparisons": len(ratings.pairs),
    }
    return Outcome(counts=counts, metrics=metrics, report=report)


def write_results(
    settings: AestheticRun,
    output: Path,
    run: JobRun,
    scorer: AestheticScorer,
    figures: dict[str, Figures],
    baseline: StatisticScorer,
    provenance: Provenance,
    images: NDArray[np.uint8],
) -> tuple[dict[str, float], Path]:
    """Writes and logs what was measured; returns the metrics and the report. images: training pictures [n, S, S, 3] to show."""
    config = settings.aes
    metrics = {name: value for part, found in figures.items() for name, value in metrics_of(part, found).items()}
    run.log_metrics(metrics, config.steps)
    run.set_tags({"annotations": provenance.origin})
    write_metrics(output / "metrics.json", settings, figures, baseline, provenance)
    write_card(output / AES_FOLDER / "README.md", config, figures, baseline.name, provenance)
    report = write_report(output / "report.html", config, figures, baseline.name, images, scorer, provenance.note)
    return metrics, report


def build_network_with_seed(config: AesConfig, seed: int) -> Ensemble:
    """Fresh networks whose weights depend on the seed only."""
    torch.manual_seed(seed)
    return build_network(config)


def split_images(count: int, validation_share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices for training and for calibration; at least one of each."""
    order = np.random.default_rng([seed, 1]).permutation(count)
    held = min(max(1, round(count * validation_share)), count - 1)
    return np.sort(order[held:]), np.sort(order[:held])


def rated_pairs(damaged: DamagedSet, ratings: Ratings, training: np.ndarray) -> RatedPairs:
    """Training data; pairs with an image outside `training` are left out."""
    place = np.full(len(damaged.keys), -1)
    place[training] = np.arange(len(training))
    pairs = place[ratings.pairs]
    return RatedPairs(
        to_input(damaged.images[training], damaged.images.shape[1]),
        torch.from_numpy(ratings.scores[training]).float(),
        pairs[(pairs >= 0).all(axis=1)],
        [damaged.categories[int(index)] for index in training],
    )


def train(settings: AestheticRun, network: Ensemble, data: RatedPairs, run: JobRun, console: Console | None) -> None:
    """Trains the network in place through the shared trainer."""
    config, training, world = settings.aes, settings.training, World()
    plan = TrainingPlan(
        total_steps=config.steps,
        learning_rates={SCORER: learning_rate([Segment(config.steps, config.learning_rate, config.warmup_steps, "cosine")])},
        seed=settings.seed,
        fingerprint={"method": "aesthetic", "aes": config.model_dump(mode="json"), "data": settings.curated_digest, "seed": settings.seed}
        | ({"votes": settings.votes_digest} if settings.votes_digest else {}),
    )
    hooks: list[Hook] = [CurveHook(run, training.log_every_steps, world.size, training.peak_tflops)]
    if console is not None:
        hooks.append(ProgressHook(console, num_devices=world.size, peak_tflops=training.peak_tflops))
    loader = BalancedPairLoader(data, config.pairs_per_step, settings.seed, config.category_balance)
    method = AestheticMethod(network, config, world.device)
    trainer = Trainer(method, loader, training, plan, settings.work, run, hooks=hooks, world=world, archive=settings.archive)
    trainer.fit()
    network.load_state_dict(trainer.engines[SCORER].export_weights(), strict=False)


def measure(settings: AestheticRun, scorer: AestheticScorer, baseline: StatisticScorer) -> dict[str, Figures]:
    """Figures on pictures of held-out concepts: `seen` damages (those trained on) and `unseen` ones."""
    config = settings.aes
    pictures = load_pixels(
        settings.curated, side_px=config.side_px, splits=TEST_SPLITS, limit=config.test_images, seed=settings.seed + TEST_SEED
    )
    figures = {}
    for name, kinds in (("seen", config.seen_damages), ("unseen", config.held_out_damages)):
        if not kinds:
            continue
        test = damage_pictures(pictures, config, kinds, settings.seed + TEST_SEED)
        scores = scorer.score(test.images)
        figures[name] = Figures(
            agreement(scores, test.qualities, seed=settings.seed),
            agreement(baseline.score(test.images), test.qualities, seed=settings.seed),
            agreement_by_kind(scores, test, settings.seed),
        )
    return figures


def metrics_of(part: str, figures: Figures) -> dict[str, float]:
    """Metrics of one test set."""
    return flat(f"aesthetic/{part}", figures.model) | {f"aesthetic/{part}_baseline_srcc": figures.baseline.srcc.value}


def write_metrics(
    path: Path, settings: AestheticRun, figures: dict[str, Figures], baseline: StatisticScorer, provenance: Provenance
) -> None:
    """Writes every figure with its interval; says what the ratings are."""
    tree: dict[str, Any] = {
        "origin": provenance.origin,
        "meaning": provenance.meaning,
        "baseline": {"statistic": baseline.name, "sign": baseline.sign},
        "comparisons_per_image": provenance.comparisons_per_image,
        "curated_digest": settings.curated_digest,
        "metrics": {name: value for part, found in figures.items() for name, value in metrics_of(part, found).items()},
        "test": {
            part: {
                "model": found.model.to_dict(),
                "baseline": found.baseline.to_dict(),
                "by_kind": {kind: one.to_dict() for kind, one in found.by_kind.items()},
            }
            for part, found in figures.items()
        },
    }
    path.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
