"""Trains the aesthetic model on people's votes: an export of tournaments, joined with the curated pictures it is about.

Items of the tournaments carry sample keys. Ratings of several annotators are pooled as data; a share of the pictures is kept out for
calibration and as many for the figures.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from imagewright.annotation.exported import read_rows
from imagewright.annotation.tournament import tier_score
from imagewright.data.buckets import Bucket
from imagewright.data.manifest import read_manifest, table_to_rows
from imagewright.data.pixels import read_pixels
from imagewright.errors import InputError, Problem
from imagewright.evaluation.aes_benchmark import check_rows, pool_ratings
from imagewright.evaluation.aes_quality import best_statistic
from imagewright.evaluation.rank_statistics import MIN_SAMPLES, agreement
from imagewright.jobs.job import Outcome
from imagewright.methods.aesthetic import RatedPairs
from imagewright.methods.aesthetic_report import Provenance
from imagewright.methods.aesthetic_run import AestheticRun, Figures, build_network_with_seed, train, write_results
from imagewright.models.aesthetic import AES_FOLDER, AestheticScorer, Calibration, fit_calibration, save_scorer, to_network_input
from imagewright.tracking.job_run import JobRun

HELD_OUT = "held_out"
MIN_VOTED = 4 * MIN_SAMPLES
FIX = "export a finished tournament whose items are named by sample keys of this curated revision"
HUMAN_NOTE = (
    "People rated these pictures in tournaments. The figures say how well the model agrees with their tiers on pictures it never saw."
)


@dataclass(frozen=True)
class VotedSet:
    """images [N, S, S, 3] uint8, scores [N] in 0..100 pooled over annotators, pairs [P, 2] of (winner, loser) indices."""

    images: NDArray[np.uint8]
    keys: list[str]
    categories: list[str]
    scores: NDArray[np.float64]
    pairs: NDArray[np.int64]
    origin: Literal["human", "simulated"]
    num_rated: int
    """Pictures with a rating; those beyond `images` are not in the curated data or cannot be read."""


def train_on_votes(settings: AestheticRun, votes: Path, output: Path, run: JobRun, console: Console | None = None) -> Outcome:
    """Writes `aes/`, `metrics.json` and `report.html` into `output`. Raises InputError for votes that cannot be trained on."""
    config, seed = settings.aes, settings.seed
    voted = read_votes(votes, settings.curated, config.side_px)
    training, calibrating, testing = three_parts(len(voted.keys), config.validation_share, seed)
    network = build_network_with_seed(config, seed)
    train(settings, network, training_pairs(voted, training), run, console)
    raw = AestheticScorer(network, config, Calibration(), voted.origin).score(voted.images[calibrating])
    scorer = AestheticScorer(network, config, fit_calibration(raw, voted.scores[calibrating]), voted.origin)
    save_scorer(scorer, output / AES_FOLDER)
    baseline = best_statistic(voted.images[training], voted.scores[training])
    figures = {HELD_OUT: measure(voted, testing, scorer.score(voted.images[testing]), baseline.score(voted.images[testing]), seed)}
    metrics, report = write_results(settings, output, run, scorer, figures, baseline, provenance_of(voted), voted.images[training])
    counts = {"num_in": voted.num_rated, "num_kept": len(voted.keys), "num_dropped": voted.num_rated - len(voted.keys)}
    return Outcome(counts=counts | {"num_comparisons": len(voted.pairs)}, metrics=metrics, report=report)


def read_votes(votes: Path, curated: Path, side_px: int) -> VotedSet:
    """Joins an export with the pictures it names. Raises InputError for too few of them, constant ratings and unusable rows."""
    rated, origin = pool_ratings(read_rows(votes / "ratings.parquet", FIX))
    check_rows(rated)
    by_key = {row.key: row for row in rated}
    rows = [row for row in table_to_rows(read_manifest(curated, kept=True)) if row.sample_key in by_key]
    found = list(read_pixels(curated, rows, Bucket(side_px, side_px), Counter()))
    if len(found) < MIN_VOTED:
        rule = f"must rate at least {MIN_VOTED} pictures of the curated data; {len(rated)} are rated"
        raise InputError(Problem("votes", rule, len(found), FIX))
    place = {row.sample_key: index for index, (row, _) in enumerate(found)}
    named = [(place.get(str(row.get("winner"))), place.get(str(row.get("loser")))) for row in read_rows(votes / "pairs.parquet", FIX)]
    pairs = [(winner, loser) for winner, loser in named if winner is not None and loser is not None]
    return VotedSet(
        np.stack([image for _, image in found]),
        [row.sample_key for row, _ in found],
        [by_key[row.sample_key].category for row, _ in found],
        np.asarray([tier_score(by_key[row.sample_key].tier) for row, _ in found]),
        np.asarray(pairs, dtype=np.int64).reshape(-1, 2),
        origin,
        len(rated),
    )


def three_parts(count: int, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Indices to train on, to calibrate on and to measure on; the latter two hold `share` each and at least three."""
    order = np.random.default_rng([seed, 2]).permutation(count)
    held = max(MIN_SAMPLES, round(count * share))
    return np.sort(order[2 * held :]), np.sort(order[:held]), np.sort(order[held : 2 * held])


def training_pairs(voted: VotedSet, training: NDArray[np.int64]) -> RatedPairs:
    """Training data; comparisons with a picture outside `training` are left out. Raises InputError when none remains."""
    place = np.full(len(voted.keys), -1)
    place[training] = np.arange(len(training))
    pairs = place[voted.pairs]
    pairs = pairs[(pairs >= 0).all(axis=1)]
    if not len(pairs):
        raise InputError(Problem("votes", "must compare pictures of the training part with one another", len(voted.pairs), FIX))
    return RatedPairs(
        to_network_input(voted.images[training], voted.images.shape[1]),
        torch.from_numpy(voted.scores[training]).float(),
        pairs,
        [voted.categories[int(index)] for index in training],
    )


def measure(voted: VotedSet, testing: NDArray[np.int64], scores: NDArray[np.float64], baseline: NDArray[np.float64], seed: int) -> Figures:
    """Agreement with people's tiers on held-out pictures, overall and by category. Raises InputError when their ratings are constant."""
    ratings, groups = voted.scores[testing], defaultdict(list)
    for position, index in enumerate(testing):
        groups[voted.categories[int(index)]].append(position)
    by_category = {
        name: agreement(scores[chosen], ratings[chosen], seed=seed, resamples=200)
        for name, chosen in sorted(groups.items())
        if len(chosen) >= MIN_SAMPLES and np.ptp(ratings[chosen]) > 0
    }
    return Figures(agreement(scores, ratings, seed=seed), agreement(baseline, ratings, seed=seed), by_category)


def provenance_of(voted: VotedSet) -> Provenance:
    """What card, report and metrics say of the votes."""
    note = HUMAN_NOTE if voted.origin == "human" else f"{HUMAN_NOTE} At least one of the ratings is simulated."
    meaning = f"agreement with tiers of {voted.origin} ratings on held-out pictures"
    facts = (
        f"ratings: {len(voted.keys)} pictures of {voted.num_rated} rated ones, {len(voted.pairs)} comparisons, {voted.origin}",
        f"categories: {len(set(voted.categories))}",
    )
    return Provenance(voted.origin, note, meaning, facts, 2 * len(voted.pairs) / len(voted.keys))
