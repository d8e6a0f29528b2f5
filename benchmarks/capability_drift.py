"""Is the student as good as its teacher, better than folding at half the steps, and do several teachers lose less than one?

Distils the given model twice per seed, with its committee of experts and with a single teacher, and judges every row of the drift table on
the same held-out prompts. Prompts are pooled over seeds: a prompt's score is its mean over the seeds' students, so the paired intervals
are over prompts. The settings are those of a recipe.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from pathlib import Path

import torch

from imagewright.config import Config, load_recipe
from imagewright.config.drift import DriftConfig
from imagewright.evaluation.capability_drift import (
    FOLDED,
    SINGLE,
    TEACHER,
    TURBO,
    ArmModel,
    DriftPrompt,
    DriftReport,
    claims,
    drift_prompts,
    measure_drift,
    score_groups,
    worst_drop,
)
from imagewright.evaluation.drift_page import label, write_drift
from imagewright.methods.mt_dmd_run import FOLDED_FOLDER, Distillation, run_distillation
from imagewright.models.text_encoder import load_text_encoder
from imagewright.models.vae import load_vae
from imagewright.tracking.job_run import NullRun

RESULT = Path(__file__).parent / "results" / "capability_drift.txt"


class FolderCache:
    """Finished images as files: a benchmark that was stopped goes on where it was."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, key: str) -> bytes | None:
        """PNG bytes under a key, or None."""
        path = self.folder / f"{key}.png"
        return path.read_bytes() if path.exists() else None

    def put(self, key: str, png: bytes) -> None:
        """Stores PNG bytes."""
        path = self.folder / f"{key}.tmp"
        path.write_bytes(png)
        path.replace(self.folder / f"{key}.png")


def distil(config: Config, arguments: argparse.Namespace, teachers: str, seed: int) -> tuple[Path, float]:
    """A student's payload folder and the seconds it took (0 when it was there already)."""
    output = arguments.work / f"{teachers}-{seed}"
    if (output / "routing.json").exists():
        return output, 0.0
    started = time.monotonic()
    settings = Distillation(
        distill=config.distill.model_copy(update={"teachers": teachers}),
        training=config.training,
        model=arguments.sft,
        model_digest="m" * 64,
        latents=arguments.latents,
        work=arguments.work / f"{teachers}-{seed}-work",
        seed=seed,
    )
    run_distillation(settings, output, NullRun())
    return output, time.monotonic() - started


def measure_seed(config: Config, arguments: argparse.Namespace, prompts: list[DriftPrompt], seed: int) -> tuple[DriftReport, float]:
    """The drift report of one seed and the seconds of its multi-teacher student."""
    turbo, seconds = distil(config, arguments, "committee", seed)
    single, _ = distil(config, arguments, "single", seed)
    models = {
        TEACHER: ArmModel(arguments.sft, "teacher"),
        FOLDED: ArmModel(turbo / FOLDED_FOLDER, f"folded-{seed}"),
        SINGLE: ArmModel(single, f"single-{seed}"),
        TURBO: ArmModel(turbo, f"committee-{seed}"),
    }
    report, columns = measure_drift(
        drift_config(config, arguments),
        models,
        prompts,
        vae=load_vae(arguments.vae / "vae"),
        text_encoder=load_text_encoder(config.text_encoder),
        cache=FolderCache(arguments.work / "images"),
        seed=0,
    )
    (arguments.work / f"report-{seed}").mkdir(exist_ok=True)
    write_drift(report, columns, {}, arguments.work / f"report-{seed}")
    return report, seconds


def drift_config(config: Config, arguments: argparse.Namespace) -> DriftConfig:
    """The recipe's section with the sizes of this benchmark."""
    return config.drift.model_copy(update={"num_prompts": arguments.prompts, "teacher_steps": arguments.teacher_steps})


def pooled(reports: list[DriftReport], prompts: list[DriftPrompt]) -> DriftReport:
    """Every row with each prompt's mean over the seeds."""
    first = reports[0]
    for place, row in enumerate(first.rows):
        tables = [report.rows[place].per_prompt for report in reports]
        row.per_prompt = {key: statistics.mean(table[key] for table in tables) for key in row.per_prompt}
        row.scores = score_groups(prompts, row.per_prompt, 2000)
    return first


def told(config: Config, arguments: argparse.Namespace, report: DriftReport, prompts: list[DriftPrompt], seconds: list[float]) -> str:
    """The table, the claims and the comparison of worst drops."""
    lines = [
        f"machine: {platform.machine()}, {torch.get_num_threads()} thread(s), load {os.getloadavg()[0]:.1f}; torch {torch.__version__}",
        f"recipe {config.name}; {len(prompts)} prompts pooled over {arguments.seeds} seed(s); {arguments.teacher_steps} teacher steps; "
        f"a multi-teacher student took {statistics.median(seconds):.0f} s (0: made by an earlier start)",
        f"{'row':52s}" + "".join(f"{name.split(' ', 1)[-1][:16]:>18s}" for name in report.groups),
    ]
    for row in report.rows:
        scores = [row.scores[name] for name in report.groups]
        cells = "".join(f"{score.value:8.3f}+-{(score.high - score.low) / 2:5.3f}   " for score in scores)
        lines.append(f"{label(row):52s}{cells}")
    for claim in claims(drift_config(config, arguments), report.rows):
        found = claim.interval
        lines.append(f"{claim.name}: {found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}] {'Reached' if claim.holds else 'Missed'}")
    teacher = report.rows[0].per_prompt
    for row in report.rows:
        if row.arm.name in (SINGLE, TURBO):
            name, drop = worst_drop(prompts, row.per_prompt, teacher)
            lines.append(f"worst domain, {label(row)}: {name} {drop.value:+.4f} [{drop.low:+.4f}, {drop.high:+.4f}]")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sft", type=Path, required=True, help="payload folder of the fine-tuned model with its experts")
    parser.add_argument("--latents", type=Path, required=True, help="payload folder of the fine-tuning data")
    parser.add_argument("--vae", type=Path, required=True, help="payload folder of the autoencoder")
    parser.add_argument("--curated", type=Path, required=True, help="payload folder of the curated data")
    parser.add_argument("--work", type=Path, required=True, help="folder to keep students and images in; a stopped run goes on")
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--set", action="append", default=[], help="deviation from the recipe, as key=value")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--teacher-steps", type=int, default=50)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    config = load_recipe(arguments.recipe, arguments.set)
    prompts = drift_prompts(arguments.curated, config.sft.domains, arguments.prompts, 0)
    found = [measure_seed(config, arguments, prompts, seed) for seed in range(arguments.seeds)]
    text = told(config, arguments, pooled([report for report, _ in found], prompts), prompts, [seconds for _, seconds in found])
    print(text, end="")
    RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
