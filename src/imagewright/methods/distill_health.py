"""Examines the student while it is distilled: raw weights and moving average against the teacher; an ill one is rolled back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from imagewright.config.distill import DistillConfig, HealthConfig
from imagewright.data.prompt_loader import PromptBatch
from imagewright.diffusion.flow_matching import TIMESTEP_SCALE
from imagewright.diffusion.guidance import guide
from imagewright.diffusion.sampler import VelocityModel, sample
from imagewright.evaluation.latent_health import MEASURES, energy_distance, ratios
from imagewright.methods.committee import Committee
from imagewright.methods.folding import STUDENT, with_prompt
from imagewright.methods.mt_dmd import FAKE, MtDmdMethod
from imagewright.models.packing import Pack
from imagewright.tracking.job_run import JobRun
from imagewright.training.hooks import StepReport
from imagewright.training.trainer import Trainer

POOLED = 4


@dataclass(frozen=True)
class Probe:
    """Fixed prompts, each with several seeds, and the teacher's samples for them: [prompts][seeds] of [C, h, w]."""

    batch: PromptBatch
    num_seeds: int
    teacher: list[list[Tensor]]

    def group(self, latents: Sequence[Tensor]) -> list[list[Tensor]]:
        """Flat samples -> [prompts][seeds]."""
        return [list(latents[start : start + self.num_seeds]) for start in range(0, len(latents), self.num_seeds)]


def repeat_prompts(batch: PromptBatch, num_seeds: int) -> PromptBatch:
    """Every prompt `num_seeds` times in a row, each time with another seed."""
    order = [index for index in range(batch.num_samples) for _ in range(num_seeds)]
    return replace(
        batch,
        prompt_embeds=[batch.prompt_embeds[index] for index in order],
        sizes=[batch.sizes[index] for index in order],
        domains=tuple(batch.domains[index] for index in order),
        noise_seeds=tuple(batch.noise_seeds[index] + number % num_seeds for number, index in enumerate(order)),
    )


def guided_teacher(committee: Committee, domains: Sequence[str], empty_prompt: Tensor, scale: float) -> VelocityModel:
    """The guided committee as a velocity model for one fixed list of samples."""

    def velocity(pack: Pack) -> Tensor:
        conditional, unconditional = committee.clean_pair(pack, with_prompt(pack, empty_prompt.to(pack.text_tokens.device)), domains, "CA")
        return (pack.image_tokens - guide(conditional, unconditional, scale)) / pack.spread(pack.timesteps / TIMESTEP_SCALE)

    return velocity


def draw_samples(
    model: VelocityModel, batch: PromptBatch, *, channels: int, num_steps: int, shift: float, device: torch.device
) -> list[Tensor]:
    """One latent per prompt of the batch, without guidance of its own."""
    return sample(
        model,
        batch.prompt_embeds,
        batch.sizes,
        channels=channels,
        seeds=batch.noise_seeds,
        num_steps=num_steps,
        shift=shift,
        device=device,
    )


def make_probe(
    batch: PromptBatch, committee: Committee, empty_prompt: Tensor, config: DistillConfig, channels: int, device: torch.device
) -> Probe:
    """Draws the teacher's samples once. They are no lessons, so the count of who taught what stays as it was."""
    num_seeds = config.health.num_seeds
    repeated = repeat_prompts(batch, num_seeds)
    taught = committee.taught.clone()
    teacher = guided_teacher(committee, repeated.domains, empty_prompt.float(), config.guidance_scale)
    steps = config.health.teacher_steps
    latents = draw_samples(teacher, repeated, channels=channels, num_steps=steps, shift=config.shift, device=device)
    committee.taught.copy_(taught)
    probe = Probe(repeated, num_seeds, [])
    return replace(probe, teacher=probe.group(latents))


def faults(found: dict[str, float], critic_ratio: float, config: HealthConfig) -> list[str]:
    """What is wrong, in words; empty for a healthy student. NaN is outside of every band."""
    wrong = [
        f"{name} is {found[name]:.3g} times the teacher's" for name in MEASURES if not config.min_ratio <= found[name] <= config.max_ratio
    ]
    if not found["diversity"] >= config.min_diversity:
        wrong.append(f"diversity is {found['diversity']:.3g} times the teacher's")
    if not critic_ratio <= config.max_critic_ratio:
        wrong.append(f"the critic's loss is {critic_ratio:.3g} times the student's")
    return wrong


def pooled(latents: Sequence[Sequence[Tensor]]) -> Tensor:
    """Latents of any size as points [n, C * 16]."""
    flat = [functional.adaptive_avg_pool2d(latent[None].float(), POOLED).flatten() for group in latents for latent in group]
    return torch.stack(flat)


class HealthHook:
    """Runs after steps: examines, logs, rolls back, and ends the run when roll-backs are used up."""

    def __init__(self, trainer: Trainer, method: MtDmdMethod, probe: Probe, run: JobRun) -> None:
        self.trainer, self.method, self.probe, self.run = trainer, method, probe, run
        self.config = method.config
        self.sums: dict[str, list[float]] = {STUDENT: [], FAKE: []}
        self.stopped = ""
        self.last: dict[str, float] = {}

    def after_step(self, report: StepReport) -> None:
        """Examines at the end of every `every_rounds`-th round and of the run."""
        for name, value in report.losses.items():
            self.sums[name].append(value)
        every = self.config.health.every_rounds * self.method.counter.turns
        if report.step % every and report.step != report.total_steps:
            return
        self.last, wrong = self.examine()
        self.sums = {STUDENT: [], FAKE: []}
        self.run.log_metrics(self.last, report.step)
        if wrong:
            self.alarm(wrong)

    def examine(self) -> tuple[dict[str, float], list[str]]:
        """Metrics `mt_dmd/<raw|ema>_<measure>` and everything that is wrong."""
        means = {name: sum(values) / len(values) if values else 0.0 for name, values in self.sums.items()}
        critic_ratio = means[FAKE] / max(means[STUDENT], 1e-12) if self.sums[STUDENT] else 0.0
        metrics, wrong = {"mt_dmd/critic_ratio": critic_ratio}, []
        for kind in ("raw", "ema"):
            found = self.measure(averaged=kind == "ema")
            if found is None:
                continue
            metrics |= {f"mt_dmd/{kind}_{name}": value for name, value in found.items()}
            wrong += [f"{kind} weights: {fault}" for fault in faults(found, critic_ratio, self.config.health)]
        return metrics, wrong

    def measure(self, *, averaged: bool) -> dict[str, float] | None:
        """Ratios to the teacher and the energy distance of the raw weights, or of the average; None where there is no average."""
        average = self.trainer.averages.get(STUDENT)
        if averaged and (average is None or self.trainer.config.engine != "torch"):
            return None
        masters = self.trainer.engines[STUDENT].masters()
        with average.applied(masters) if averaged and average is not None else nullcontext(), torch.no_grad():
            latents = self.probe.group(self.samples())
        found = ratios(latents, self.probe.teacher)
        found["energy_distance"] = energy_distance(pooled(latents), pooled(self.probe.teacher))
        return found

    def samples(self) -> list[Tensor]:
        """The student's samples, as it is exported."""
        student, config = self.method.student, self.config
        device = self.trainer.world.device
        return draw_samples(
            student,
            self.probe.batch,
            channels=student.config.in_channels,
            num_steps=config.num_student_steps,
            shift=config.shift,
            device=device,
        )

    def alarm(self, wrong: Sequence[str]) -> None:
        """Back to the last healthy state; the run ends there once the allowed roll-backs are used up (stop rule)."""
        rollbacks = self.method.rollbacks + 1
        self.run.log_event("student_ill", self.trainer.step, "; ".join(wrong))
        self.trainer.roll_back()
        # The checkpoint holds the count of its own time: a student that falls ill again and again must not be rolled back for ever.
        self.method.rollbacks = rollbacks
        if rollbacks > self.config.health.max_rollbacks:
            self.stopped = wrong[0]
            self.trainer.plan = replace(self.trainer.plan, total_steps=self.trainer.step)
            self.run.log_event("stopped", self.trainer.step, f"after {rollbacks - 1} roll-backs: {wrong[0]}")
