"""Runs pretraining from a folder of latents to a folder of weights: joins data, method, trainer and export."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from imagewright.config.model import ModelConfig
from imagewright.config.pretrain import PretrainConfig
from imagewright.config.training import TrainingConfig
from imagewright.data.latents import LatentsDataset
from imagewright.data.packed_loader import PackedLoader
from imagewright.data.staged_loader import StagedLoader
from imagewright.methods.pretrain import TRANSFORMER, PretrainMethod, choose_held_out, validation_batches
from imagewright.methods.sample_grid import SampleGrid
from imagewright.models.adapters import attach, fused
from imagewright.models.diffusers_adapter import load_transformer, save_transformer
from imagewright.models.dit import ErnieImageDiT
from imagewright.tracking.job_run import JobRun
from imagewright.training.archive import ArchivePlace
from imagewright.training.hooks import CurveHook, Hook, ProgressHook
from imagewright.training.schedule import Segment, learning_rate
from imagewright.training.trainer import FitResult, Trainer, TrainingPlan
from imagewright.training.world import World

CHECKPOINTING = {"none": 0, "selective": 2, "full": 1}


@dataclass(frozen=True)
class Pretraining:
    """Everything one pretraining run is made from."""

    model: ModelConfig
    pretrain: PretrainConfig
    training: TrainingConfig
    latents: Path
    work: Path
    """Scratch that survives a kill: checkpoints and heartbeats."""
    seed: int = 0
    method: str = "pretrain"
    """Name of the method in checkpoints and in `training.json`."""
    initial: Path | None = None
    """Transformer folder to start from; none starts from fresh weights of `model`."""
    parent: str = ""
    """Payload digest of the initial weights."""
    vae: Path | None = None
    """Folder of the autoencoder that pictures are seen through; none draws no pictures."""
    archive: ArchivePlace | None = None
    """Where checkpoints are copied to; none keeps them in `work` alone."""
    lora: tuple[int, float] | None = None
    """Rank and alpha of a LoRA that alone is trained, and fused into the weights at the end; none trains every weight."""


def run_pretraining(
    settings: Pretraining,
    output: Path,
    run: JobRun,
    *,
    console: Console | None = None,
    world: World | None = None,
    hooks: tuple[Hook, ...] = (),
) -> tuple[FitResult, dict[str, int]]:
    """Trains (or continues) and writes `transformer/`, `ema/` and `training.json` into `output`; returns the result and counts.

    Raises LatentsError for data of another shape than the model, LoaderError for budgets that cannot hold it.
    """
    world = world or World()
    dataset = LatentsDataset(settings.latents)
    dataset.contract.require(channels=settings.model.in_channels, text_dim=settings.model.text_in_dim)
    trainer, loader = build_trainer(settings, dataset, run, world, (*hooks, *watchers(settings.training, run, console, world)))
    result = trainer.fit()
    export(trainer, settings, dataset, output, world)
    counts = {
        "samples": len(dataset),
        "steps": result.steps,
        "quarantined": len(quarantined(loader)),
        "skipped_updates": result.skipped_updates,
    }
    return result, counts


def build_trainer(
    settings: Pretraining, dataset: LatentsDataset, run: JobRun, world: World, hooks: tuple[Hook, ...] = ()
) -> tuple[Trainer, StagedLoader]:
    """The trainer of a pretraining run and the loader it reads from."""
    pretrain, training = settings.pretrain, settings.training
    held_out = choose_held_out(dataset, pretrain.validation_samples)
    loader = build_loader(settings, dataset, held_out, run, world)
    torch.manual_seed(settings.seed)
    transformer = load_transformer(settings.initial) if settings.initial else ErnieImageDiT(settings.model)
    if settings.lora is not None:
        rank, alpha = settings.lora
        attach(transformer, settings.method, rank=rank, alpha=alpha, seed=settings.seed)
    transformer.set_checkpointing(CHECKPOINTING[training.activation_checkpointing])
    validation = validation_batches(dataset, held_out, pretrain.stages[-1].batching.pack_tokens)
    method = PretrainMethod(transformer, pretrain, validation, world.device, sample_grid(settings, dataset, held_out, world))
    plan = TrainingPlan(
        total_steps=pretrain.total_steps,
        learning_rates={TRANSFORMER: learning_rate(segments(pretrain))},
        seed=settings.seed,
        averaged=(TRANSFORMER,),
        fingerprint=fingerprint(settings, dataset),
    )
    folder, archive = settings.work, settings.archive
    return Trainer(method, loader, training, plan, folder, run, hooks=hooks, world=world, archive=archive), loader


def sample_grid(settings: Pretraining, dataset: LatentsDataset, held_out: frozenset[int], world: World) -> SampleGrid | None:
    """The pictures of a run, where it has an autoencoder to draw them with."""
    config = settings.training.sample_grid
    if settings.vae is None or not config.num_prompts:
        return None
    return SampleGrid(config, dataset, held_out, settings.pretrain.stages, settings.vae, settings.work / "samples", world.device)


def build_loader(settings: Pretraining, dataset: LatentsDataset, held_out: frozenset[int], run: JobRun, world: World) -> StagedLoader:
    """One packed loader per stage."""

    def quarantine(key: str) -> None:
        run.log_event("sample_quarantined", 0, f"{key} does not match its checksum; it is left out")

    loaders = [
        PackedLoader(
            dataset,
            stage.batching,
            seed=settings.seed,
            rank=world.rank,
            world_size=world.size,
            resolution=stage.resolution,
            stage=number,
            held_out=held_out,
            on_corrupt=quarantine,
        )
        for number, stage in enumerate(settings.pretrain.stages)
    ]
    return StagedLoader(loaders, [stage.steps for stage in settings.pretrain.stages])


def segments(pretrain: PretrainConfig) -> list[Segment]:
    """Learning-rate segment of every stage."""
    return [
        Segment(stage.steps, stage.learning_rate, stage.warmup_steps, stage.decay, stage.final_learning_rate_ratio)
        for stage in pretrain.stages
    ]


def fingerprint(settings: Pretraining, dataset: LatentsDataset) -> dict[str, Any]:
    """What a checkpoint must agree with: the model, the data, the optimizer, the stages and the seed."""
    training = settings.training
    return {
        "method": settings.method,
        "parent": settings.parent,
        "model": settings.model.model_dump(mode="json"),
        "latents": dataset.digest,
        "optimizer": training.optimizer,
        "ema_decay": training.ema_decay,
        "stages": [stage.model_dump(mode="json") for stage in settings.pretrain.stages],
        "seed": settings.seed,
        **({"lora": list(settings.lora)} if settings.lora else {}),
    }


def watchers(training: TrainingConfig, run: JobRun, console: Console | None, world: World) -> list[Hook]:
    """Curves, and the progress line where there is a console."""
    hooks: list[Hook] = [CurveHook(run, training.log_every_steps, world.size, training.peak_tflops)]
    return hooks + ([ProgressHook(console, num_devices=world.size, peak_tflops=training.peak_tflops)] if console is not None else [])


def quarantined(loader: StagedLoader) -> set[str]:
    """Keys of the corrupt samples met so far by this process."""
    return set().union(*(part.quarantined for part in loader.loaders))


def export(trainer: Trainer, settings: Pretraining, dataset: LatentsDataset, output: Path, world: World) -> None:
    """Writes the model payload; every process takes part in gathering, the first one writes."""
    weights = trainer.engines[TRANSFORMER].export_weights()
    average = trainer.average_weights(TRANSFORMER) if TRANSFORMER in trainer.averages else {}
    if not world.is_first:
        return
    with torch.device("meta"):
        shape = ErnieImageDiT(settings.model)
    save_transformer(shape, output / "transformer", state=plain(weights, settings))
    if average:
        save_transformer(shape, output / "ema", state=plain(complete(average, weights), settings))
    about = {
        "method": settings.method,
        "step": trainer.step,
        "parent_digest": settings.parent,
        "latents_digest": dataset.digest,
        "contract": dataset.contract.model_dump(mode="json"),
    }
    (output / "training.json").write_text(json.dumps(about, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def plain(weights: dict[str, Tensor], settings: Pretraining) -> dict[str, Tensor]:
    """The weights as a model without adapter has them."""
    if settings.lora is None:
        return weights
    assert settings.initial is not None, "an adapter is trained on weights that are there"
    rank, alpha = settings.lora
    return fused(load_transformer(settings.initial).state_dict(), weights, settings.method, alpha / rank)


def complete(average: dict[str, Tensor], weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Averages where there are any, the weights themselves for frozen parameters."""
    return {name: average.get(name, tensor) for name, tensor in weights.items()}
