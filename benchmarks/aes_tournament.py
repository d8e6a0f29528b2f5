"""How well does a Swiss tournament order images, against Elo and round robin at the same number of comparisons?

Simulated: known order, an annotator whose choices are reversed at a fixed rate.

    python benchmarks/aes_tournament.py --output benchmarks/results
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from scipy.stats import spearmanr

from imagewright.annotation.simulated import SimulatedAnnotator, hold_tournament
from imagewright.annotation.tournament import Tournament

Orderer = Callable[[list[str], SimulatedAnnotator, int, int], dict[str, float]]
ELO_STEP = 32.0


def swiss(items: list[str], annotator: SimulatedAnnotator, rounds: int, seed: int) -> dict[str, float]:
    """Tiers after `rounds` comparisons of each image."""
    return {item: float(tier) for item, tier in hold_tournament(Tournament(tuple(items), seed, rounds), annotator).tiers.items()}


def elo(items: list[str], annotator: SimulatedAnnotator, rounds: int, seed: int) -> dict[str, float]:
    """Elo ratings (K = 32, start 1500) over the same number of comparisons of random pairs."""
    rng, rating = random.Random(seed), dict.fromkeys(items, 1500.0)
    for _ in range(rounds * len(items) // 2):
        first, second = rng.sample(items, 2)
        expected = 1 / (1 + 10 ** ((rating[second] - rating[first]) / 400))
        change = ELO_STEP * ((annotator.choose(first, second) == first) - expected)
        rating[first] += change
        rating[second] -= change
    return rating


def round_robin(items: list[str], annotator: SimulatedAnnotator, rounds: int, seed: int) -> dict[str, float]:
    """Share of wins in a full round robin that is stopped at the same number of comparisons (its games in random order)."""
    games = list(combinations(items, 2))
    random.Random(seed).shuffle(games)
    wins, played = dict.fromkeys(items, 0), dict.fromkeys(items, 0)
    for first, second in games[: rounds * len(items) // 2]:
        wins[annotator.choose(first, second)] += 1
        played[first] += 1
        played[second] += 1
    return {item: (wins[item] + 0.5) / (played[item] + 1) for item in items}


METHODS: dict[str, Orderer] = {"swiss (tiers)": swiss, "elo": elo, "round robin": round_robin}


def measure(num_images: int, flip: float, rounds: list[int], seeds: int) -> dict[str, dict[int, list[float]]]:
    """Spearman correlation with the true order, by method, comparisons per image and seed; seeds are interleaved over methods."""
    items = [f"image-{place:04d}" for place in range(num_images)]
    truth = {item: float(place) for place, item in enumerate(items)}
    found: dict[str, dict[int, list[float]]] = {name: {count: [] for count in rounds} for name in METHODS}
    for seed in range(seeds):
        for count in rounds:
            for name, order in METHODS.items():
                ratings = order(items, SimulatedAnnotator(truth, flip=flip, seed=seed), count, seed)
                found[name][count].append(float(spearmanr([truth[item] for item in items], [ratings[item] for item in items])[0]))
    return found


def plot(found: dict[str, dict[int, list[float]]], title: str, path: Path) -> None:
    """Median lines with the range over seeds."""
    figure, axes = plt.subplots(figsize=(7, 4.2))
    for name, by_count in found.items():
        counts = sorted(by_count)
        axes.plot(counts, [statistics.median(by_count[count]) for count in counts], marker="o", label=name)
        axes.fill_between(counts, [min(by_count[count]) for count in counts], [max(by_count[count]) for count in counts], alpha=0.15)
    axes.axhline(0.9, color="grey", linewidth=0.8, linestyle="--")
    axes.set(xlabel="comparisons per image", ylabel="Spearman with the true order", title=title)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--flip", type=float, default=0.1)
    parser.add_argument("--rounds", type=int, nargs="+", default=[4, 6, 8, 10, 12])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    found = measure(options.images, options.flip, options.rounds, options.seeds)
    title = f"{options.images} images, {options.flip:.0%} of choices reversed, {options.seeds} seeds (simulated)"
    print(f"{title}; {platform.machine()}, Python {platform.python_version()}")
    print(f"{'comparisons per image':24}" + "".join(f"{count:>18}" for count in options.rounds))
    for name, by_count in found.items():
        cells = [f"{statistics.median(v):.3f} [{min(v):.3f}, {max(v):.3f}]" for v in (by_count[count] for count in options.rounds)]
        print(f"{name:24}" + "".join(f"{cell:>22}" for cell in cells))
    if options.output:
        tree = {"title": title, "spearman": found}
        (options.output / "aes_tournament.json").write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
        plot(found, title, options.output / "aes_tournament.png")


if __name__ == "__main__":
    main()
