"""Runs preference training from a folder of pairs to a folder of weights, and stops it at the last healthy checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from imagewright.config.dpo import DpoConfig
from imagewright.config.training import TrainingConfig
from imagewright.data.latents import LatentsDataset
from imagewright.data.packing_plan import stream
from imagewright.data.pair_loader import PairBatch, PairLoader, read_batch, split_held_out
from imagewright.data.preferences import Pair, audit_pairs, index_of, read_pairs, read_sampled_from, usable_pairs
from imagewright.methods.dpo import DpoMethod, UnhealthyPolicyError, require_sampled_from
from imagewright.methods.pretrain import TRANSFORMER
from imagewright.methods.pretrain_run import CHECKPOINTING, watchers
from imagewright.methods.sft import best_weights
from imagewright.models.adapters import attach, tuner_layers
from imagewright.models.diffusers_adapter import load_transformer, read_config, save_transformer
from imagewright.models.dit import ErnieImageDiT
from imagewright.tracking.job_run import JobRun
from imagewright.training.archive import ArchivePlace
from imagewright.training.schedule import Segment, learning_rate
from imagewright.training.trainer import Trainer, TrainingPlan
from imagewright.training.world import World

ADAPTER = "dpo"
BASE_SUFFIX = ".base_layer.weight"
NEAR_DUPLICATE_DISTANCE = 0.0


@dataclass(frozen=True)
class DpoRun:
    """Everything one preference run is made from."""

    dpo: DpoConfig
    training: TrainingConfig
    sft: Path
    """Payload folder of the model to start from; it is the reference too."""
    sft_digest: str
    preferences: Path
    work: Path
    seed: int
    archive: ArchivePlace | None = None
    """Where checkpoints are copied to."""


@dataclass(frozen=True)
class DpoResult:
    """How a run ended. `skipped`: why there are no new weights. `stopped`: why it ended before its last step."""

    metrics: dict[str, float]
    counts: dict[str, int]
    skipped: str = ""
    stopped: str = ""


def run_dpo(settings: DpoRun, output: Path, run: JobRun, console: Console | None = None, world: World | None = None) -> DpoResult:
    """Trains (or continues) and writes `transformer/` and `training.json` into `output`.

    Without a usable pair, or without a healthy checkpoint, nothing is written and the result says why. Raises PreferenceError for a set
    that does not pass its audit, NotTheParentError for one sampled from another model than the reference.
    """
    require_sampled_from(read_sampled_from(settings.preferences), settings.sft_digest)
    audit_pairs(settings.preferences, NEAR_DUPLICATE_DISTANCE)
    world = world or World()
    pairs = usable_pairs(read_pairs(settings.preferences))
    training, held_out = split_held_out(pairs, settings.dpo.held_out_fraction)
    counts = {"pairs": len(training), "held_out_pairs": len(held_out)}
    if not training:
        return DpoResult({}, counts, skipped=f"no pair to train on: {len(pairs)} usable, {len(held_out)} of them held out")
    trainer = build_trainer(settings, training, held_out, run, console, world)
    stopped = ""
    try:
        trainer.fit()
    except UnhealthyPolicyError as error:
        stopped = str(error)
        if world.is_first:
            run.log_event("dpo_stopped", trainer.step, stopped)
        if trainer.checkpoints.newest() is None:
            return DpoResult({}, counts, skipped=f"no healthy checkpoint: {stopped}")
        trainer.roll_back()
    export(trainer, settings, output, stopped, world)
    metrics = {**trainer.validation, "dpo/steps": float(trainer.step), "dpo/stopped": float(bool(stopped))}
    run.log_metrics(metrics, trainer.step)
    return DpoResult(metrics, {**counts, "steps": trainer.step}, stopped=stopped)


def build_trainer(
    settings: DpoRun, training: Sequence[Pair], held_out: Sequence[Pair], run: JobRun, console: Console | None, world: World
) -> Trainer:
    """The trainer of a preference run. Checks and checkpoints go together, the check first: what is saved is healthy.

    No moving average: over so few steps it would still be the reference.
    """
    config = settings.dpo
    dataset = LatentsDataset(settings.preferences)
    start = best_weights(settings.sft)
    model = read_config(start)
    dataset.contract.require(channels=model.in_channels, text_dim=model.text_in_dim)
    policy = load_transformer(start)
    if config.weights == "lora":
        attach(policy, ADAPTER, rank=config.rank, alpha=config.alpha, seed=settings.seed)
    policy.set_checkpointing(CHECKPOINTING[settings.training.activation_checkpointing])
    reference = load_transformer(start) if config.weights == "full" else None
    # A set too small to hold anything out is still watched for drift, on the pairs it trains on.
    watched = watched_batches(dataset, held_out or training[: config.pairs_per_step], config)
    method = DpoMethod(policy, reference, config, watched, world, "held_out" if held_out else "trained")
    plan = TrainingPlan(
        total_steps=config.steps,
        learning_rates={TRANSFORMER: learning_rate([Segment(config.steps, config.learning_rate, config.warmup_steps)])},
        seed=settings.seed,
        fingerprint=fingerprint(settings, dataset, training),
    )
    loader = PairLoader(
        dataset,
        training,
        pairs_per_step=config.pairs_per_step,
        pairs_per_pack=config.pairs_per_pack,
        seed=settings.seed,
        rank=world.rank,
        world=world.size,
    )
    changes = {"ema_decay": 0.0, "validate_every_steps": config.check_every_steps, "checkpoint_every_steps": config.check_every_steps}
    shared = settings.training.model_copy(update=changes)
    hooks = watchers(shared, run, console, world)
    return Trainer(method, loader, shared, plan, settings.work / "dpo", run, hooks=hooks, world=world, archive=settings.archive)


def watched_batches(dataset: LatentsDataset, pairs: Sequence[Pair], config: DpoConfig) -> list[PairBatch]:
    """Batches of health checks; their noise is fixed by the data alone."""
    places = index_of(dataset)
    seeds = stream("dpo held out", dataset.digest).integers(0, 2**62, len(pairs)).tolist()
    size = config.pairs_per_pack
    return [read_batch(dataset, places, pairs[at : at + size], seeds[at : at + size]) for at in range(0, len(pairs), size)]


def fingerprint(settings: DpoRun, dataset: LatentsDataset, pairs: Sequence[Pair]) -> dict[str, Any]:
    """What a checkpoint must agree with."""
    return {
        "method": "dpo",
        "parent": settings.sft_digest,
        "preferences": dataset.digest,
        "pairs": [f"{pair.chosen_key} > {pair.rejected_key}" for pair in pairs],
        "dpo": settings.dpo.model_dump(mode="json"),
        "optimizer": settings.training.optimizer,
        "seed": settings.seed,
    }


def export(trainer: Trainer, settings: DpoRun, output: Path, stopped: str, world: World) -> None:
    """Writes the model payload; every process takes part in gathering, the first one writes."""
    weights = trainer.engines[TRANSFORMER].export_weights()
    if not world.is_first:
        return
    policy = trainer.engines[TRANSFORMER].module
    with torch.device("meta"):
        shape = ErnieImageDiT(read_config(best_weights(settings.sft)))
    save_transformer(shape, output / "transformer", state=merge_adapter(weights, scale_of(policy)))
    dataset = LatentsDataset(settings.preferences)
    about = {
        "method": "dpo",
        "step": trainer.step,
        "parent_digest": settings.sft_digest,
        "reference_digest": settings.sft_digest,
        "preferences_digest": dataset.digest,
        "stopped": stopped,
        "contract": dataset.contract.model_dump(mode="json"),
    }
    (output / "training.json").write_text(json.dumps(about, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def scale_of(policy: torch.nn.Module) -> float:
    """alpha / rank of the adapter; 0 where there is none."""
    return next((float(layer.scaling[ADAPTER]) for layer in tuner_layers(policy)), 0.0)


def merge_adapter(weights: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    """W + scale B A for every projection with an adapter, under the plain model's names; other weights as they are."""
    merged = {name: tensor for name, tensor in weights.items() if ".lora_" not in name and not name.endswith(BASE_SUFFIX)}
    for name, base in weights.items():
        if name.endswith(BASE_SUFFIX):
            path = name.removesuffix(BASE_SUFFIX)
            down, up = weights[f"{path}.lora_A.{ADAPTER}.weight"], weights[f"{path}.lora_B.{ADAPTER}.weight"]
            merged[f"{path}.weight"] = (base.float() + scale * up.float() @ down.float()).to(base.dtype)
    return merged
