"""Do the anchors of the preference loss hold a policy near its reference? Plain against stabilised DPO on the same pairs.

Both arms start from the same model and see the same pairs, noise and rates; only lambda_win and lambda_lose differ (0 and 0 against the
report's 0.35 and 0.15). Every few steps the errors of chosen and rejected samples are measured on held-out pairs at fixed noise levels,
as shares of the reference's: l_win and l_lose of the report. No alarm stops a run here, so that the drift is seen to its end.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from imagewright.config.dpo import DpoConfig
from imagewright.data.latents import LatentsDataset
from imagewright.data.pair_loader import PairLoader, split_held_out
from imagewright.data.preferences import read_pairs, usable_pairs
from imagewright.methods.dpo import DpoMethod
from imagewright.methods.dpo_run import watched_batches
from imagewright.methods.sft import best_weights
from imagewright.models.diffusers_adapter import load_transformer

ARMS = {"plain": (0.0, 0.0), "stabilised": (0.35, 0.15)}
COLOURS = {"plain": "#c2362b", "stabilised": "#2f5bd7"}
RESULTS = Path(__file__).parent / "results" / "dpo_stability"


@dataclass(frozen=True)
class Curve:
    """Health of one arm at one rate: step -> measures."""

    arm: str
    learning_rate: float
    points: dict[int, dict[str, float]]

    @property
    def last(self) -> dict[str, float]:
        return self.points[max(self.points)]

    @property
    def label(self) -> str:
        return f"{self.arm}, rate {self.learning_rate:g}"


def train(arm: str, rate: float, arguments: argparse.Namespace) -> Curve:
    """One arm at one rate; AdamW as in the product, gradients clipped to norm 1."""
    win, lose = ARMS[arm]
    config = DpoConfig(
        steps=arguments.steps,
        warmup_steps=0,
        learning_rate=rate,
        pairs_per_step=arguments.pairs_per_step,
        pairs_per_pack=arguments.pairs_per_step,
        lambda_win=win,
        lambda_lose=lose,
        held_out_fraction=0.2,
    )
    dataset = LatentsDataset(arguments.preferences)
    training, held_out = split_held_out(usable_pairs(read_pairs(arguments.preferences)), config.held_out_fraction)
    weights = best_weights(arguments.sft)
    policy, reference = (load_transformer(weights, dtype=torch.float32) for _ in range(2))
    method = DpoMethod(policy, reference, config, watched_batches(dataset, held_out or training[:16], config))
    loader = PairLoader(dataset, training, pairs_per_step=config.pairs_per_step, pairs_per_pack=config.pairs_per_pack, seed=arguments.seed)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.001)
    points = {0: method.held_out_health()}
    for step in range(1, arguments.steps + 1):
        loss = method.train_step(loader.next_step()[0], step).losses["transformer"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, step / 5)
        optimizer.step()
        if step % arguments.every == 0 or step == arguments.steps:
            points[step] = method.held_out_health()
    return Curve(arm, rate, points)


def plot(curves: list[Curve], path: Path) -> None:
    """Drift of both errors and the held-out accuracy over steps."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    shown = (
        ("chosen_error_drift", "drift of l_win"),
        ("rejected_error_drift", "drift of l_lose"),
        ("implicit_accuracy", "implicit accuracy, held out"),
    )
    figure, axes = pyplot.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    rates = sorted({curve.learning_rate for curve in curves})
    for axis, (measure, title) in zip(axes, shown, strict=True):
        for curve in curves:
            style = ("-", "--", ":")[rates.index(curve.learning_rate) % 3]
            steps = sorted(curve.points)
            axis.plot(steps, [curve.points[step][measure] for step in steps], style, color=COLOURS[curve.arm], label=curve.label)
        axis.axhline(0.5 if measure == "implicit_accuracy" else 0.0, color="#999999", linewidth=0.8)
        axis.set_title(title, fontsize=11)
        axis.set_xlabel("step")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)


def report(curves: list[Curve], arguments: argparse.Namespace, started: float) -> str:
    """The figures, and whether the stabilised arm drifts less."""
    pairs = usable_pairs(read_pairs(arguments.preferences))
    lines = [
        f"machine: {platform.machine()}, {torch.get_num_threads()} thread(s), load {os.getloadavg()[0]:.1f}; torch {torch.__version__}",
        f"{len(pairs)} pairs of the model's own samples, {arguments.pairs_per_step} a step, {arguments.steps} steps, beta 0.05, "
        f"dpo sum / anchors mean; {time.monotonic() - started:.0f} s",
        f"{'arm':28s}{'drift l_win':>13s}{'drift l_lose':>14s}{'accuracy':>10s}{'distance':>10s}{'first |l_win drift| > 5%':>27s}",
    ]
    for curve in curves:
        over = [step for step, found in sorted(curve.points.items()) if abs(found["chosen_error_drift"]) > 0.05]
        last = curve.last
        lines.append(
            f"{curve.label:28s}{last['chosen_error_drift']:+13.2%}{last['rejected_error_drift']:+14.2%}{last['implicit_accuracy']:10.3f}"
            f"{last['reference_distance']:10.4f}{f'step {over[0]}' if over else 'never':>27s}"
        )
    for rate in sorted({curve.learning_rate for curve in curves}):
        both = {curve.arm: abs(curve.last["chosen_error_drift"]) for curve in curves if curve.learning_rate == rate}
        verdict = "Reached" if both["stabilised"] < both["plain"] else "Missed"
        lines.append(
            f"rate {rate:g}: |drift of l_win| {both['stabilised']:.2%} stabilised, {both['plain']:.2%} plain; target: less. {verdict}"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sft", type=Path, required=True, help="payload folder of the model the pairs were sampled from")
    parser.add_argument("--preferences", type=Path, required=True, help="payload folder of the pairs")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--pairs-per-step", type=int, default=16)
    parser.add_argument("--learning-rates", type=float, nargs="+", default=[3e-6, 2e-5])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS, help="path without suffix of the .txt and .png written")
    arguments = parser.parse_args()
    started = time.monotonic()
    curves = [train(arm, rate, arguments) for rate in arguments.learning_rates for arm in ARMS]
    told = report(curves, arguments, started)
    print(told, end="")
    plot(curves, arguments.output.with_suffix(".png"))
    arguments.output.with_suffix(".txt").write_text(told, encoding="utf-8")


if __name__ == "__main__":
    main()
