"""Do our distillation losses train a student as well as NVlabs/FastGen's? The same networks, draws and updates, rates tuned per arm.

FastGen (Apache-2.0) is no part of this project. Check it out at the pinned commit, install what its methods import (`pip install loguru
ftfy imageio`) and name its folder:

    git clone https://github.com/NVlabs/FastGen FOLDER && git -C FOLDER checkout 34f30e8ff1a563555fc0c7d59f1c1409dacd8af2
    python benchmarks/fastgen_comparison.py --fastgen FOLDER

Of its code everything that computes runs as it is: `DMD2Model.single_train_step` with its rectified-flow schedule, conversions, guidance,
variational score distillation loss and denoising loss. Network, settings and random draws are given to it, the same as to our arm; its
discriminator is off, because our objective has none. Optimizer, clipping, moving average and five fake-score updates for each student
update are those of our recipes in both arms.

The problem is a mixture of eight Gaussians in the plane, four of unequal weight to each of two labels; the student starts as the teacher
and makes a point in one step. The measure is the energy distance (0 = the same distribution; unbiased, so it may fall below 0) to the data
and to the teacher's samples, mean of the labels. "Not worse" means that the 95% interval of the paired difference over seeds is not wholly
above zero.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Protocol

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from point_teacher import (
    COUNT,
    NO_LABEL,
    START,
    Draw,
    Networks,
    PointVelocity,
    clean_of,
    distances,
    draws,
    make_teacher,
    one_token_pack,
    spread,
    student_samples,
    teacher_samples,
)
from torch import Tensor, nn

from imagewright.diffusion.flow_matching import add_noise, velocity_target
from imagewright.losses.distribution_matching import (
    distribution_matching_gradient,
    generator_loss,
    guidance_augmentation_gradient,
    normaliser,
)
from imagewright.losses.velocity import velocity_loss

COMMIT = "34f30e8ff1a563555fc0c7d59f1c1409dacd8af2"
RESULT = Path(__file__).parent / "results" / "fastgen_comparison.txt"
BATCH, CRITIC_UPDATES, BETAS, CLIP = 128, 5, (0.0, 0.999), 1.0
RATES = ((3e-4, 1e-3), (1e-3, 3e-3), (3e-3, 3e-3))
"""Student and fake score: what every arm tries on the tuning seeds."""
TUNING_SEED, SEEDS, STUDENT_T = 900, 5, 2.776


@dataclass(frozen=True)
class Plan:
    """Sizes of a run."""

    rounds: int
    teacher_steps: int
    ema_decay: float
    tuning_seeds: int


class Arm(Protocol):
    """One implementation of the losses, with networks of its own."""

    student: PointVelocity
    critic: PointVelocity

    def critic_loss(self, draw: Draw) -> Tensor: ...
    def student_loss(self, draw: Draw) -> Tensor: ...


class ImagewrightArm:
    """Our losses, put together as `methods/mt_dmd.py` does for `distill.matching.renoising`: `shared` or `decoupled`."""

    def __init__(self, networks: Networks, guidance: float, renoising: str) -> None:
        self.student, self.critic, self.teacher = deepcopy((networks.student, networks.critic, networks.teacher))
        self.guidance, self.decoupled, self.pack = guidance, renoising == "decoupled", one_token_pack(BATCH)

    def generated(self, draw: Draw) -> Tensor:
        """The student's points [B, 2, 1, 1]."""
        return clean_of(self.student, draw.start, torch.full((BATCH,), START), draw.label)

    def critic_loss(self, draw: Draw) -> Tensor:
        """Flow matching of the fake score on the student's points."""
        with torch.no_grad():
            clean = self.generated(draw)
        velocity = self.critic(add_noise(clean, draw.noise, spread(draw.level)), draw.level, draw.label)
        return velocity_loss(velocity.flatten(1), velocity_target(clean, draw.noise).flatten(1), self.pack).mean()

    def student_loss(self, draw: Draw) -> Tensor:
        """DM + CA, each divided by its normaliser."""
        clean = self.generated(draw)
        return generator_loss(clean, self.gradient(clean.detach(), draw)).mean()

    @torch.no_grad()
    def gradient(self, clean: Tensor, draw: Draw) -> Tensor:
        """The direction [B, 2, 1, 1] in which the points should not go."""
        noised, level = add_noise(clean, draw.noise, spread(draw.level)), draw.level
        fake, real = (clean_of(network, noised, level, draw.label) for network in (self.critic, self.teacher))
        dm, conditional = distribution_matching_gradient(real, fake), real
        if self.decoupled:
            noised, level = add_noise(clean, draw.ca_noise, spread(draw.ca_level)), draw.ca_level
            conditional = clean_of(self.teacher, noised, level, draw.label)
        unconditional = clean_of(self.teacher, noised, level, torch.full_like(draw.label, NO_LABEL))
        ca = guidance_augmentation_gradient(conditional, unconditional, self.guidance)
        near_dm, near_ca = (real, conditional) if self.decoupled else (real - ca, real - ca)
        return dm / normaliser(clean, near_dm) + ca / normaliser(clean, near_ca)


Build = Callable[[Networks, float], Arm]
Rates = tuple[float, float]


def arms_of(guidance: float) -> dict[str, Build]:
    """The arms; without guidance there is nothing to decouple."""
    from fastgen_peer import FastGenArm

    arms: dict[str, Build] = {
        "FastGen": partial(FastGenArm, prediction="flow"),
        "FastGen, fake score on x0": partial(FastGenArm, prediction="x0"),
        "imagewright, shared": partial(ImagewrightArm, renoising="shared"),
    }
    return arms if guidance == 1.0 else arms | {"imagewright, decoupled": partial(ImagewrightArm, renoising="decoupled")}


@cache
def networks_of(seed: int, teacher_steps: int) -> Networks:
    """Student and fake score start as the teacher."""
    teacher = make_teacher(seed, teacher_steps)
    student, critic = (deepcopy(teacher).requires_grad_(True) for _ in range(2))
    return Networks(student, critic, teacher)


def train(arm: Arm, rates: Rates, plan: Plan, seed: int) -> PointVelocity:
    """Rounds of fake-score updates and one student update; the moving average of the student (decay 0: its last weights)."""
    parts = zip((arm.student, arm.critic), rates, strict=True)
    student, critic = (torch.optim.Adam(part.parameters(), rate, BETAS, fused=True) for part, rate in parts)
    numbers, average = draws(seed, BATCH), deepcopy(arm.student)
    for _ in range(plan.rounds):
        for turn in range(CRITIC_UPDATES + 1):
            last = turn == CRITIC_UPDATES
            optimizer, network, loss = (student, arm.student, arm.student_loss) if last else (critic, arm.critic, arm.critic_loss)
            optimizer.zero_grad()
            loss(next(numbers)).backward()
            nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            optimizer.step()
        for mean, value in zip(average.parameters(), arm.student.parameters(), strict=True):
            mean.data.lerp_(value.data, 1.0 - plan.ema_decay)
    return average


def run(build: Build, networks: Networks, guidance: float, rates: Rates, plan: Plan, seed: int) -> tuple[float, float]:
    """Distances of one arm's student after training."""
    student = train(build(networks, guidance), rates, plan, 30_000 + seed)
    return distances(lambda label: student_samples(student, label, COUNT, seed), networks.teacher, guidance, seed)


def tune(guidance: float, plan: Plan) -> dict[str, Rates]:
    """The rates of each arm with which its student is nearest to the teacher, mean of seeds that are not measured."""
    best = {}
    for name, build in arms_of(guidance).items():
        found = {}
        for rates in RATES:
            seeds = range(TUNING_SEED, TUNING_SEED + plan.tuning_seeds)
            runs = (run(build, networks_of(seed, plan.teacher_steps), guidance, rates, plan, seed) for seed in seeds)
            found[rates] = statistics.mean(to_teacher for _, to_teacher in runs)
        best[name] = min(found, key=lambda rates: found[rates])
        print(f"  tried {name}: " + ", ".join(f"{rates[0]:g}/{rates[1]:g} {value:.4f}" for rates, value in found.items()), flush=True)
    return best


def measure(guidance: float, best: dict[str, Rates], plan: Plan, seed: int) -> dict[str, tuple[float, float]]:
    """Row -> distances to data and teacher."""
    networks = networks_of(seed, plan.teacher_steps)
    drawn = {
        "teacher, 50 steps": lambda label: teacher_samples(networks.teacher, label, guidance, COUNT, seed),
        "before distillation": lambda label: student_samples(networks.student, label, COUNT, seed),
    }
    table = {row: distances(samples, networks.teacher, guidance, seed) for row, samples in drawn.items()}
    return table | {name: run(build, networks, guidance, best[name], plan, seed) for name, build in arms_of(guidance).items()}


def agreement(guidance: float, seed: int) -> tuple[float, float]:
    """Greatest relative difference of the gradients of `imagewright, shared` and `FastGen`, student and fake score, at random weights."""
    torch.manual_seed(seed)
    networks = Networks(PointVelocity(), PointVelocity(), PointVelocity().requires_grad_(False))
    arms = arms_of(guidance)
    first, second = arms["imagewright, shared"](networks, guidance), arms["FastGen"](networks, guidance)
    draw, found = next(draws(seed, BATCH)), []
    for part, loss in (("student", "student_loss"), ("critic", "critic_loss")):
        gradients = []
        for arm in (first, second):
            getattr(arm, loss)(draw).backward()
            gradients.append(torch.cat([parameter.grad.flatten() for parameter in getattr(arm, part).parameters()]))
        found.append(float((gradients[0] - gradients[1]).norm() / gradients[1].norm()))
    return found[0], found[1]


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half-width of the 95% interval (Student's t over seeds)."""
    return statistics.mean(values), STUDENT_T * statistics.stdev(values) / len(values) ** 0.5


def compared(tables: list[dict[str, tuple[float, float]]]) -> list[str]:
    """Paired differences, ours minus FastGen's, with verdicts."""
    lines = []
    rows = [name for name in tables[0] if name.startswith("imagewright")]
    for ours, theirs in product(rows, [name for name in tables[0] if name.startswith("FastGen")]):
        cells = []
        for column in (0, 1):
            mean, half = interval([table[ours][column] - table[theirs][column] for table in tables])
            cells.append(f"{mean:8.4f} ± {half:6.4f} {'worse' if mean - half > 0 else 'not worse':9s}")
        lines.append(f"  {ours} - {theirs}".ljust(54) + "   ".join(cells))
    return lines


def setting(guidance: float, plan: Plan) -> list[str]:
    """Tunes, measures and tells one setting."""
    title = f"guidance {guidance:g}" if guidance > 1.0 else "without guidance"
    print(title, flush=True)
    best = tune(guidance, plan)
    tables = [measure(guidance, best, plan, seed) for seed in range(SEEDS)]
    student, critic = (max(values) for values in zip(*(agreement(guidance, seed) for seed in range(SEEDS)), strict=True))
    lines = [
        f"{title}; from the same weights and draws, gradients of shared and FastGen differ by at most {student:.1e} (student) and "
        f"{critic:.1e} (fake score) of their norm",
        f"  {'':52s}{'to data':>17s}   {'to teacher':>17s}   rates, student / fake score",
    ]
    for row in tables[0]:
        cells = [interval([table[row][column] for table in tables]) for column in (0, 1)]
        rates = f"   {best[row][0]:g} / {best[row][1]:g}" if row in best else ""
        lines.append(f"  {row:52s}" + "   ".join(f"{mean:8.4f} ± {half:6.4f}" for mean, half in cells) + rates)
    return [*lines, *compared(tables)]


def commit_of(folder: Path, other: bool) -> str:
    """FastGen's commit; ends the run where it is another one than the pinned one, or files were changed."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, text=True).stdout.strip()

    commit, changed = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    if (commit != COMMIT or changed) and not other:
        sys.exit(f"{folder} is at {commit}{' with changes' if changed else ''}, not at {COMMIT}; check that out, or pass --other-commit")
    return commit + (" with changes" if changed else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fastgen", type=Path, required=True, help="folder of a FastGen checkout")
    parser.add_argument("--other-commit", action="store_true", help="take a commit that is not the pinned one, write no result")
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 2.0], help="of the teacher, one setting each; 1 is none")
    parser.add_argument("--rounds", type=int, default=200, help="student updates")
    parser.add_argument("--teacher-steps", type=int, default=2000)
    parser.add_argument("--ema-decay", type=float, default=0.98, help="of the student that is measured; 0 takes its last weights")
    parser.add_argument("--tuning-seeds", type=int, default=2)
    arguments = parser.parse_args()
    commit = commit_of(arguments.fastgen, arguments.other_commit)
    sys.path.insert(0, str(arguments.fastgen))
    torch.set_num_threads(1)
    plan = Plan(arguments.rounds, arguments.teacher_steps, arguments.ema_decay, arguments.tuning_seeds)
    lines = [
        f"FastGen {commit}; torch {torch.__version__}, 1 thread; {plan}",
        f"a round: {CRITIC_UPDATES} fake-score updates and 1 student update of {BATCH} points; energy distance of {COUNT} samples a label",
        f"95% intervals over {SEEDS} seeds, rates tuned on others; differences are paired, negative: ours is nearer",
    ]
    for guidance in arguments.guidance:
        lines += setting(guidance, plan)
        print("\n".join(lines), flush=True)
    lines.append(f"{time.process_time():.0f} CPU s")
    if not arguments.other_commit:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
