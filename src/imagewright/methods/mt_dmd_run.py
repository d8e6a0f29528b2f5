"""Runs the Turbo stage from a model payload and prompts to a few-step model payload: folding, then rounds of distribution matching."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from imagewright.config.distill import DistillConfig
from imagewright.config.training import TrainingConfig
from imagewright.data.latents import LatentsDataset
from imagewright.data.prompt_loader import PromptLoader, TurnCounter
from imagewright.methods.committee import Committee
from imagewright.methods.committee_run import Faculty, open_faculty
from imagewright.methods.distill_health import HealthHook, make_probe
from imagewright.methods.folding import STUDENT, FoldingMethod
from imagewright.methods.mt_dmd import FAKE, MtDmdMethod
from imagewright.methods.pretrain_run import CHECKPOINTING, complete, watchers
from imagewright.methods.sft import best_weights
from imagewright.models.adapters import attach
from imagewright.models.diffusers_adapter import load_transformer, save_transformer
from imagewright.models.dit import ErnieImageDiT
from imagewright.tracking.job_run import JobRun
from imagewright.training.archive import ArchivePlace, part_of
from imagewright.training.schedule import Segment, learning_rate
from imagewright.training.trainer import Trainer, TrainingPlan
from imagewright.training.world import World

PROBE_DRAW = -1
FOLDED_FOLDER = "folded"
"""The student after its first phase, beside the finished one: what distribution matching added is measured against it."""
ROUTING_NAME = "routing.json"


@dataclass(frozen=True)
class Distillation:
    """Everything one distillation is made from."""

    distill: DistillConfig
    training: TrainingConfig
    model: Path
    """Payload folder of the model the student starts from (`dpo` or `sft`)."""
    model_digest: str
    latents: Path
    """Encoded data; its captions, sizes and categories are the prompts."""
    work: Path
    seed: int = 0
    experts: Path | None = None
    """Payload folder of the `sft` model that holds the experts; none looks for them in the model's own payload."""
    experts_digest: str = ""
    archive: ArchivePlace | None = None
    """Where checkpoints of the matching are copied to."""

    def training_config(self, checkpoint_every_steps: int) -> TrainingConfig:
        """The training section with what distillation needs otherwise."""
        distill = self.distill
        return self.training.model_copy(
            update={
                "betas": distill.betas,
                "weight_decay": distill.weight_decay,
                "ema_decay": distill.ema_decay,
                "validate_every_steps": 0,
                "checkpoint_every_steps": checkpoint_every_steps,
            }
        )

    def fingerprint(self, phase: str, dataset: LatentsDataset) -> dict[str, Any]:
        """What a checkpoint must agree with."""
        return {
            "method": phase,
            "model": self.model_digest,
            "experts": self.experts_digest,
            "latents": dataset.digest,
            "distill": self.distill.model_dump(mode="json"),
            "seed": self.seed,
        }


def run_distillation(
    settings: Distillation, output: Path, run: JobRun, console: Console | None = None
) -> tuple[dict[str, float], dict[str, int]]:
    """Distils (or continues) and writes `transformer/`, `ema/` where it is the better one, `training.json` and `routing.json`.

    Returns metrics and counts. Raises CommitteeError, RoutingError or AdapterError for teachers that cannot teach, PromptError for
    an empty prompt set, TrainingDivergedError when the numbers go bad more often than they may be rolled back.
    """
    dataset = LatentsDataset(settings.latents)
    student = load_transformer(best_weights(settings.model), dtype=torch.float32)
    student.set_checkpointing(CHECKPOINTING[settings.training.activation_checkpointing])
    dataset.contract.require(channels=student.config.in_channels, text_dim=student.config.text_in_dim)
    PromptLoader(dataset, TurnCounter(1), count=1, seed=settings.seed)
    faculty = open_faculty(settings.distill, settings.model, settings.experts, dataset, settings.seed, lineage(settings))
    if faculty.note:
        run.log_event("committee_not_informative", 0, faculty.note)
        if console is not None:
            console.print(faculty.note, highlight=False)
    faculty.base.to(World().device)
    folded = fold(settings, student, faculty.committee, dataset, run, console)
    if settings.distill.matching.rounds and settings.distill.folding.steps:
        save_transformer(student, output / FOLDED_FOLDER / "transformer")
    hook = match(settings, student, faculty, dataset, run, console)
    metrics = {"mt_dmd/folding_loss": folded, **(hook.last if hook else {})}
    export(settings, student, faculty, dataset, hook, output)
    counts = {"teachers": len(faculty.committee.teachers)}
    if hook is not None:
        method = hook.method
        counts |= {"student_updates": method.student_updates, "critic_updates": method.critic_updates, "rollbacks": method.rollbacks}
    return metrics, counts


def lineage(settings: Distillation) -> tuple[str, str]:
    """Digests (model, experts); the experts are the model's own when no other payload was given."""
    return settings.model_digest, settings.experts_digest or settings.model_digest


def fold(
    settings: Distillation, student: ErnieImageDiT, committee: Committee, dataset: LatentsDataset, run: JobRun, console: Console | None
) -> float:
    """First phase; the student takes the folded weights. Returns the last loss."""
    folding = settings.distill.folding
    if not folding.steps:
        return 0.0
    counter = TurnCounter(1)
    world = World()
    method = FoldingMethod(student, committee, dataset.empty_prompt, settings.distill, counter, seed=settings.seed, device=world.device)
    training = settings.training_config(settings.training.checkpoint_every_steps).model_copy(update={"ema_decay": 0.0})
    plan = TrainingPlan(
        total_steps=folding.steps,
        learning_rates={STUDENT: learning_rate([Segment(folding.steps, folding.learning_rate, decay="cosine", final_ratio=0.1)])},
        seed=settings.seed,
        fingerprint=settings.fingerprint("folding", dataset),
    )
    loader = PromptLoader(dataset, counter, count=settings.distill.prompts_per_round, seed=settings.seed)
    hooks, archive = watchers(training, run, console, world), part_of(settings.archive, "folding")
    return Trainer(method, loader, training, plan, settings.work / "folding", run, hooks=hooks, archive=archive).fit().last_loss


def match(
    settings: Distillation, student: ErnieImageDiT, faculty: Faculty, dataset: LatentsDataset, run: JobRun, console: Console | None
) -> HealthHook | None:
    """Second phase; returns the hook, which holds trainer and method."""
    distill, world = settings.distill, World()
    matching = distill.matching
    if not matching.rounds:
        return None
    committee = faculty.committee
    counter = TurnCounter(matching.critic_updates_per_student + 1)
    loader = PromptLoader(dataset, counter, count=distill.prompts_per_round, seed=settings.seed + 1)
    probe_loader = PromptLoader(dataset, TurnCounter(1), count=distill.health.probe_prompts, seed=settings.seed)
    channels = student.config.in_channels
    probe = make_probe(probe_loader.draw(PROBE_DRAW), committee, dataset.empty_prompt, distill, channels, world.device)
    fake = fake_network(settings, faculty, student)
    method = MtDmdMethod(student, fake, committee, dataset.empty_prompt, distill, counter, seed=settings.seed, device=world.device)
    training = settings.training_config(distill.health.every_rounds * counter.turns)
    total = matching.rounds * counter.turns
    plan = TrainingPlan(
        total_steps=total,
        learning_rates={
            STUDENT: learning_rate([Segment(total, matching.student_learning_rate)]),
            FAKE: learning_rate([Segment(total, matching.critic_learning_rate)]),
        },
        seed=settings.seed,
        averaged=(STUDENT,),
        fingerprint=settings.fingerprint("mt_dmd", dataset),
    )
    trainer = Trainer(method, loader, training, plan, settings.work / "matching", run, archive=part_of(settings.archive, "matching"))
    hook = HealthHook(trainer, method, probe, run)
    trainer.hooks = (*watchers(training, run, console, world), hook)
    trainer.fetch_copy()
    if trainer.checkpoints.newest() is None:
        trainer.save()  # the folded student: what the first alarm goes back to
    trainer.fit()
    if not hook.last:
        hook.last, _ = hook.examine()
    return hook


def fake_network(settings: Distillation, faculty: Faculty, student: ErnieImageDiT) -> ErnieImageDiT:
    """The fake score at first: an adapter on the teachers' base, or a copy of the folded student.

    As a copy of the base it would take the guidance folded into the student for an error to be corrected, on top of the real ones.
    """
    matching = settings.distill.matching
    if matching.fake == "lora":
        attach(faculty.base, FAKE, rank=matching.fake_rank, alpha=matching.fake_alpha, seed=settings.seed)
        return faculty.base
    fake = load_transformer(faculty.base_folder, dtype=torch.float32)
    fake.load_state_dict(student.state_dict())
    return fake


def export(
    settings: Distillation, student: ErnieImageDiT, faculty: Faculty, dataset: LatentsDataset, hook: HealthHook | None, output: Path
) -> None:
    """Writes the payload. The average is written only where its samples are nearer to the teacher's than those of the raw weights."""
    weights: dict[str, Tensor] = {name: tensor.detach().cpu() for name, tensor in student.state_dict().items()}
    steps = settings.distill.folding.steps
    if hook is not None:
        trainer = hook.trainer
        steps += trainer.step
        weights = trainer.engines[STUDENT].export_weights()
        raw, ema = hook.last.get("mt_dmd/raw_energy_distance", 0.0), hook.last.get("mt_dmd/ema_energy_distance", float("inf"))
        if STUDENT in trainer.averages and ema < raw:
            save_transformer(student, output / "ema", state=complete(trainer.average_weights(STUDENT), weights))
    save_transformer(student, output / "transformer", state=weights)
    about = {
        "method": "mt_dmd",
        "step": steps,
        "parent_digest": settings.model_digest,
        "experts_digest": settings.experts_digest,
        "latents_digest": dataset.digest,
        "contract": dataset.contract.model_dump(mode="json"),
        "num_steps": settings.distill.num_student_steps,
        "shift": settings.distill.shift,
        "guidance_scale": 1.0,
        "stopped": hook.stopped if hook else "",
    }
    write_json(output / "training.json", about)
    write_json(output / ROUTING_NAME, faculty.report(settings.distill.routing))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """A small sorted JSON file."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
