"""What does each stage of distillation buy? Teacher, undistilled, folded only, single-teacher and multi-teacher students, at 8 and 4 steps.

Every row goes through the product's own runs (pretraining, fine-tuning with experts, distillation) on a small real problem: points of the
plane as 1 x 1 latents, each prompt domain a mixture of its own. The measure is the energy distance (0 = the same distribution), of which
unbiased estimates may fall below 0, to the data and to the guided teacher at full steps; mean and worst of the domains. The pictures of
a text-to-image model are another matter: this says whether the method works, not how well it draws.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor

from imagewright.config.batching import BatchingConfig
from imagewright.config.distill import DistillConfig, FoldingConfig, HealthConfig, MatchingConfig
from imagewright.config.model import ModelConfig
from imagewright.config.pretrain import PretrainConfig, PretrainStage
from imagewright.config.sft import ExpertConfig, SftConfig
from imagewright.config.timesteps import TimestepConfig
from imagewright.config.training import TrainingConfig
from imagewright.data.latents import EncodedCaption, LatentsContract, LatentsDataset, LatentsWriter
from imagewright.diffusion.sampler import sample
from imagewright.evaluation.latent_health import energy_distance
from imagewright.methods.committee_run import open_faculty
from imagewright.methods.distill_health import guided_teacher
from imagewright.methods.mt_dmd_run import Distillation, run_distillation
from imagewright.methods.pretrain_run import Pretraining, run_pretraining
from imagewright.methods.sft import SftRun, best_weights, run_sft
from imagewright.models.diffusers_adapter import load_transformer
from imagewright.models.dit import ErnieImageDiT
from imagewright.tracking.job_run import NullRun

DOMAINS = ("ring", "line", "square", "pair")
CENTRES = {
    "ring": torch.tensor([[torch.pi * k / 4] for k in range(8)]).squeeze(1),
    "line": torch.linspace(-1.8, 1.8, 5),
}
TEXT_DIM = 16
MODEL = ModelConfig(
    hidden_size=64, num_layers=2, num_attention_heads=2, ffn_hidden_size=192, in_channels=2, out_channels=2, text_in_dim=TEXT_DIM,
    rope_axes_dim=(8, 12, 12),
)  # fmt: skip
TIMESTEPS = TimestepConfig(shift_rule="static", shift=1.0)
BATCHING = BatchingConfig(pack_tokens=256, packs_per_step=1, caption_dropout=0.1)
SHIFT = 2.0
GUIDANCE = 1.5
TEACHER_STEPS = 25


@dataclass(frozen=True)
class Lengths:
    """Steps of every stage."""

    pretrain: int
    sft: int
    experts: int
    folding: int
    rounds: int
    points: int


FULL = Lengths(pretrain=500, sft=40, experts=250, folding=50, rounds=100, points=512)


@dataclass(frozen=True)
class StudentArm:
    """One kind of student; `rates` are tried on a seed of their own, the best one is used on the others."""

    teachers: str
    matching: dict[str, object]
    rates: tuple[float, ...]

    @property
    def folds_only(self) -> bool:
        """True for the arm without distribution matching, whose rate is that of folding."""
        return not self.matching


MATCHING: dict[str, object] = {"target": "samples", "renoising": "shared", "rollout_steps": (8, 4)}
RATES = (2e-5, 5e-5, 1e-4)
FOLDING_RATE = 5e-4
STUDENTS = {
    "folded only": StudentArm("committee", {}, (2e-4, FOLDING_RATE, 1e-3)),
    "predictions matched": StudentArm("single", {"target": "predictions", "renoising": "decoupled"}, RATES),
    "single-teacher DMD": StudentArm("single", MATCHING, RATES),
    "MT-DMD": StudentArm("committee", MATCHING, RATES),
}
TUNING_SEED = 900
RESULT = Path(__file__).parent / "results" / "distillation.txt"


def points(domain: str, count: int, generator: torch.Generator) -> Tensor:
    """Points [n, 2] of a domain's mixture."""
    noise = torch.randn(count, 2, generator=generator)
    if domain == "ring":
        angle = CENTRES["ring"][torch.randint(8, (count,), generator=generator)]
        return 1.6 * torch.stack([angle.cos(), angle.sin()], dim=1) + 0.08 * noise
    if domain == "line":
        place = CENTRES["line"][torch.randint(5, (count,), generator=generator)]
        return torch.stack([place, 0.4 * place], dim=1) + 0.08 * noise
    if domain == "square":
        return 2.0 * torch.rand(count, 2, generator=generator) - 1.0
    side = 2.0 * torch.randint(2, (count, 1), generator=generator) - 1.0
    return torch.cat([0.9 * side, -1.2 * side], dim=1) + 0.15 * noise


def prompt(domain: str) -> Tensor:
    """The domain's only prompt, [2, D]."""
    return torch.randn(2, TEXT_DIM, generator=torch.Generator().manual_seed(DOMAINS.index(domain) + 1))


def write_data(folder: Path, seed: int, per_domain: int = 400) -> Path:
    """Points as latents, one caption each, the domain as category."""
    contract = LatentsContract(vae_digest="0" * 64, stride=16, channels=2, text_dim=TEXT_DIM, max_tokens=4)
    generator = torch.Generator().manual_seed(seed)
    with LatentsWriter(folder, contract, torch.zeros(1, TEXT_DIM)) as writer:
        for domain in DOMAINS:
            for number, point in enumerate(points(domain, per_domain, generator)):
                writer.add(f"{domain}{number}", point.reshape(2, 1, 1), [EncodedCaption("long", prompt(domain))], category=domain)
    return folder


def stage(steps: int, learning_rate: float) -> PretrainStage:
    return PretrainStage(steps=steps, learning_rate=learning_rate, decay="cosine", batching=BATCHING, timesteps=TIMESTEPS)


def training() -> TrainingConfig:
    return TrainingConfig(checkpoint_every_steps=10_000, log_every_steps=1000, validate_every_steps=0, ema_decay=0.99)


def make_teacher(folder: Path, lengths: Lengths, seed: int) -> Path:
    """Base, then fine-tuning with one expert per domain: an `sft` payload."""
    if (folder / "sft" / "experts" / "experts.json").exists():
        return folder / "sft"
    data = write_data(folder / "data", seed)
    base = Pretraining(
        model=MODEL,
        pretrain=PretrainConfig(stages=(stage(lengths.pretrain, 3e-3),), validation_samples=0),
        training=training(),
        latents=data,
        work=folder / "pretrain-work",
        seed=seed,
    )
    run_pretraining(base, folder / "base", NullRun())
    sft = SftConfig(
        domains=DOMAINS,
        stage=stage(lengths.sft, 3e-4),
        experts=ExpertConfig(rank=8, alpha=16.0, stage=stage(lengths.experts, 3e-3)),
        validation_samples=160,
    )
    run_sft(SftRun(sft, training(), folder / "base", "b" * 64, data, folder / "sft-work", seed), folder / "sft", NullRun())
    return folder / "sft"


def distill(folder: Path, lengths: Lengths, seed: int, name: str, rate: float) -> Path:
    """One student at one rate."""
    arm = STUDENTS[name]
    target = folder / f"{name.replace(' ', '-')}-{rate:g}"
    if (target / "routing.json").exists():
        return target
    config = DistillConfig(
        shift=SHIFT,
        guidance_scale=GUIDANCE,
        teachers=arm.teachers,  # type: ignore[arg-type]
        prompts_per_round=64,
        folding=FoldingConfig(steps=lengths.folding, learning_rate=rate if arm.folds_only else FOLDING_RATE, states_per_rollout=2),
        matching=MatchingConfig(
            rounds=0 if arm.folds_only else lengths.rounds,
            student_learning_rate=rate,
            critic_learning_rate=5e-4,
            **arm.matching,  # type: ignore[arg-type]
        ),
        health=HealthConfig(every_rounds=50, probe_prompts=16, teacher_steps=16, min_ratio=0.2, max_ratio=5.0, min_diversity=0.1),
    )
    settings = Distillation(config, training(), folder / "sft", "s" * 64, folder / "data", folder / f"{target.name}-work", seed)
    run_distillation(settings, target, NullRun())
    return target


def draw(model: object, domain: str, count: int, steps: int, guidance: float, seed: int) -> Tensor:
    """Samples [n, 2] of one domain."""
    texts = [prompt(domain)] * count
    seeds = [seed * 1_000_003 + number for number in range(count)]
    latents = sample(
        model,  # type: ignore[arg-type]
        texts,
        [(1, 1)] * count,
        channels=2,
        seeds=seeds,
        num_steps=steps,
        shift=SHIFT,
        guidance_scale=guidance,
        negative_embeds=torch.zeros(1, TEXT_DIM),
    )
    return torch.stack([latent.flatten() for latent in latents])


def students_of(folder: Path, lengths: Lengths, seed: int, rates: dict[str, float]) -> dict[str, ErnieImageDiT]:
    """Every model of the table."""
    students = {name: load_transformer(best_weights(distill(folder, lengths, seed, name, rates[name]))) for name in STUDENTS}
    return {"undistilled": load_transformer(best_weights(folder / "sft")), **students}


def tune(lengths: Lengths, work: Path) -> dict[str, float]:
    """The rate of every arm with which its student is nearest to the teacher, mean of 8 and 4 steps, on the tuning seed."""
    torch.set_num_threads(1)
    folder = work / f"seed-{TUNING_SEED}"
    base = load_transformer(best_weights(make_teacher(folder, lengths, TUNING_SEED)))
    reference = {domain: draw(base, domain, lengths.points, TEACHER_STEPS, GUIDANCE, TUNING_SEED + 500) for domain in DOMAINS}
    best = {}
    for name, arm in STUDENTS.items():
        found = {}
        for rate in arm.rates:
            model = load_transformer(best_weights(distill(folder, lengths, TUNING_SEED, name, rate)))
            found[rate] = statistics.mean(
                energy_distance(draw(model, domain, lengths.points, steps, 1.0, TUNING_SEED), reference[domain])
                for domain in DOMAINS
                for steps in (8, 4)
            )
        best[name] = min(found, key=lambda rate: found[rate])
    return best


def measure(folder: Path, lengths: Lengths, seed: int, rates: dict[str, float]) -> tuple[dict[str, list[float]], dict[str, bool]]:
    """Row -> [mean to data, worst to data, mean to teacher, worst to teacher]; and which experts beat their base."""
    make_teacher(folder, lengths, seed)
    models = students_of(folder, lengths, seed, rates)
    faculty = open_faculty(DistillConfig(), folder / "sft", None, LatentsDataset(folder / "data"), seed, ("s", "s"))
    truth = {domain: points(domain, lengths.points, torch.Generator().manual_seed(10_000 + seed)) for domain in DOMAINS}
    count = lengths.points
    base = models["undistilled"]
    samples: dict[str, dict[str, Tensor]] = {}
    for domain in DOMAINS:
        committee = guided_teacher(faculty.committee, [domain] * count, torch.zeros(1, TEXT_DIM), GUIDANCE)
        # The reference has noise of its own: with shared noise a row could be near it point by point, and not only in distribution.
        samples.setdefault("reference", {})[domain] = draw(base, domain, count, TEACHER_STEPS, GUIDANCE, seed + 500)
        rows = {
            f"teacher, guided, {TEACHER_STEPS} steps ({2 * TEACHER_STEPS} NFE)": (base, TEACHER_STEPS, GUIDANCE),
            f"committee, guided, {TEACHER_STEPS} steps ({2 * TEACHER_STEPS} NFE)": (committee, TEACHER_STEPS, 1.0),
            "undistilled, guided, 4 steps (8 NFE)": (base, 4, GUIDANCE),
        }
        for name, model in models.items():
            rows |= {f"{name}, 8 steps (8 NFE)": (model, 8, 1.0), f"{name}, 4 steps (4 NFE)": (model, 4, 1.0)}
        for row, (model, steps, guidance) in rows.items():
            samples.setdefault(row, {})[domain] = draw(model, domain, count, steps, guidance, seed)
    reference = samples.pop("reference")
    table = {}
    for row, found in samples.items():
        to_data = [energy_distance(found[domain], truth[domain]) for domain in DOMAINS]
        to_teacher = [energy_distance(found[domain], reference[domain]) for domain in DOMAINS]
        table[row] = [part for values in (to_data, to_teacher) for part in (statistics.mean(values), max(values))]
    return table, dict(faculty.gains)


def measure_seed(lengths: Lengths, work: Path, rates: dict[str, float], seed: int) -> tuple[dict[str, list[float]], dict[str, bool]]:
    """`measure` on one thread."""
    torch.set_num_threads(1)
    return measure(work / f"seed-{seed}", lengths, seed, rates)


STUDENT_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 10: 2.262}


def half_width(values: list[float]) -> float:
    """Half of the 95% interval of the mean (Student's t over seeds); infinite for a single seed."""
    return STUDENT_T[len(values)] * statistics.stdev(values) / len(values) ** 0.5 if len(values) in STUDENT_T else float("inf")


def interval(values: list[float]) -> str:
    """Mean and half-width of the 95% interval."""
    return f"{statistics.mean(values):8.4f} ± {half_width(values):6.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--work", type=Path, help="folder to keep; a run that was stopped goes on from the teachers it finished")
    parser.add_argument("--workers", type=int, default=1, help="processes, one seed each at a time")
    parser.add_argument("--scale", type=float, default=1.0, help="length of every stage as a share of the full one")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    scaled = partial(lambda share, steps: max(2, round(steps * share)), arguments.scale)
    lengths = Lengths(*(scaled(steps) for steps in vars(FULL).values())) if arguments.scale != 1.0 else FULL
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        work = arguments.work or Path(scratch)
        rates = tune(lengths, work)
        found = list(pool.map(partial(measure_seed, lengths, work, rates), range(arguments.seeds)))
    text = told(lengths, rates, [table for table, _ in found], [gains for _, gains in found], time.monotonic() - started)
    print(text, end="")
    if arguments.scale == 1.0:
        RESULT.write_text(text, encoding="utf-8")


def told(
    lengths: Lengths, rates: dict[str, float], tables: list[dict[str, list[float]]], gains: list[dict[str, bool]], seconds: float
) -> str:
    """Table, paired differences and verdicts."""
    lines = [f"machine: CPU, 1 thread, load {os.getloadavg()[0]:.1f}; torch {torch.__version__}; synthetic points, no images; {lengths}"]
    lines.append(f"{seconds:.0f} s; rates tuned on a seed of their own: " + ", ".join(f"{name} {rate:g}" for name, rate in rates.items()))
    lines += [f"seed {seed}: experts that beat their base: {sum(table.values())} of {len(table)}" for seed, table in enumerate(gains)]
    columns = ("to data, mean", "to data, worst", "to teacher, mean", "to teacher, worst")
    lines.append("energy distance; 95% intervals over seeds".ljust(45) + "".join(f"{name:>20s}" for name in columns))
    for row in tables[0]:
        lines.append(f"{row:44s} " + " ".join(interval([table[row][column] for table in tables]) for column in range(4)))
    lines.append("paired differences over seeds (negative: the first is nearer); verdict on the mean distance to the teacher")
    compared = (
        ("MT-DMD", "folded only"),
        ("single-teacher DMD", "folded only"),
        ("predictions matched", "folded only"),
        ("MT-DMD", "single-teacher DMD"),
    )
    for steps, target in (("8 steps (8 NFE)", "not farther"), ("4 steps (4 NFE)", "nearer")):
        for first, second in compared:
            pairs = [[table[f"{first}, {steps}"][k] - table[f"{second}, {steps}"][k] for table in tables] for k in range(4)]
            lines.append(f"{first} - {second}, {steps}"[:56].ljust(56) + " ".join(interval(values) for values in pairs))
            if first == "MT-DMD" and second == "folded only":
                lines.append(f"  target: {target}. {verdict(pairs[2], target)}")
    return "\n".join(lines) + "\n"


def verdict(differences: list[float], target: str) -> str:
    """Reached when the interval of the differences is below zero (`nearer`), or not wholly above it (`not farther`)."""
    half = half_width(differences)
    mean = statistics.mean(differences)
    return "Reached" if (mean + half < 0 if target == "nearer" else mean - half <= 0) else "Missed"


if __name__ == "__main__":
    main()
