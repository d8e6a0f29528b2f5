"""How well does the aesthetic model of a recipe agree with known damage, on kinds it was trained on and on kinds it never saw?

Trains `train-aesthetic` as the recipe sets it on the recipe's own sources (without the faults that curation removes), once per seed, and
measures on held-out concepts. Everything is simulated: ratings come from annotators in code, quality is the known severity of damage.

    python benchmarks/aes_quality.py --output benchmarks/results/aes_quality.txt
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from imagewright.config import Config, load_recipe
from imagewright.config.data import CorruptConfig
from imagewright.evaluation.rank_statistics import agreement
from imagewright.methods.aesthetic_run import AestheticRun, train_aesthetic
from imagewright.sources.ingest import ingest
from imagewright.tracking.job_run import NullRun

PARTS = ("seen", "unseen")


@dataclass(frozen=True)
class Measured:
    """One seed. test: `metrics.json`'s; ratings: agreement of the training tiers with the known quality of the same pictures."""

    seed: int
    test: dict[str, Any]
    baseline: str
    ratings: str
    cpu_seconds: float


def measure(config: Config, pool: Path, seed: int, folder: Path) -> Measured:
    """Trains and measures once, on one thread."""
    torch.set_num_threads(1)
    output = folder / "output"
    output.mkdir(parents=True)
    started = time.process_time()
    train_aesthetic(AestheticRun(config.aes, config.training, pool, "benchmark", folder / "work", seed), output, NullRun())
    cpu_seconds = time.process_time() - started
    tree = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    rows = pq.read_table(output / "annotations" / "ratings.parquet", columns=["score", "known_quality"])
    ratings = agreement(rows["score"].to_numpy(), rows["known_quality"].to_numpy(), resamples=200)
    return Measured(seed, tree["test"], tree["baseline"]["statistic"], str(ratings.srcc), cpu_seconds)


def shown(estimate: dict[str, float]) -> str:
    """0.870 [0.840, 0.890]."""
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def report(config: Config, runs: Sequence[Measured], num_pictures: int) -> str:
    """The results as text."""
    aes = config.aes
    lines = [
        f"machine: {platform.machine()}, {platform.system()}, Python {platform.python_version()}, torch {torch.__version__}, one thread",
        f"recipe {config.name}: backbone {aes.backbone}, {aes.side_px} px, {aes.members} members, {aes.train_images} rated pictures of a "
        f"pool of {num_pictures}, {aes.steps} steps of {aes.pairs_per_step} pairs, learning rate {aes.learning_rate}",
        f"simulated annotators: {aes.annotator_flip:.0%} of choices reversed, tournaments of about {aes.tournament_images}",
        "SRCC with the known quality of held-out concepts [95% bootstrap over pictures]; damage is simulated, no person judged",
        "",
        f"{'seed':6}{'kinds of damage':18}{'aesthetic model':26}{'single statistic':44}pictures",
    ]
    for run in runs:
        for part in PARTS:
            found = run.test[part]
            base = f"{shown(found['baseline']['srcc'])} ({run.baseline})"
            lines.append(f"{run.seed:<6}{part:18}{shown(found['model']['srcc']):26}{base:44}{found['model']['num']}")
    lines.append("")
    for part in PARTS:
        values = [run.test[part]["model"]["srcc"]["value"] for run in runs]
        lines.append(f"{part}: median {statistics.median(values):.3f}, range {min(values):.3f} to {max(values):.3f} over {len(runs)} seeds")
        kinds = sorted({kind for run in runs for kind in run.test[part]["by_kind"]})
        medians = [
            (kind, statistics.median(run.test[part]["by_kind"][kind]["srcc"]["value"] for run in runs if kind in run.test[part]["by_kind"]))
            for kind in kinds
        ]
        lines.append(f"  pictures with: {', '.join(f'{kind} {value:.2f}' for kind, value in medians)}")
    lines.append(f"the ratings it learned from, against known quality: {'; '.join(run.ratings for run in runs)}")
    lines.append(f"CPU seconds with reading, damage, tournaments, training and figures: {', '.join(f'{r.cpu_seconds:.0f}' for r in runs)}")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--set", nargs="*", default=[], help="changes, for example aes.backbone=conv")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pool", type=Path, help="where the pool lies, or is drawn; without it a temporary folder")
    parser.add_argument("--processes", type=int, default=1, help="seeds measured side by side")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    config = load_recipe(options.recipe, options.set)
    with tempfile.TemporaryDirectory() as scratch:
        pool = options.pool or Path(scratch) / "pool"
        if not (pool / "manifest.parquet").is_file():
            ingest(config.data.model_copy(update={"corrupt": CorruptConfig()}), pool, config.seed)
        num_pictures = pq.read_metadata(pool / "manifest.parquet").num_rows
        with ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn")) as workers:
            waiting = [workers.submit(measure, config, pool, seed, Path(scratch) / str(seed)) for seed in options.seeds]
            runs = [found.result() for found in waiting]
    text = report(config, runs, num_pictures)
    print(text, end="")
    if options.output:
        options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
