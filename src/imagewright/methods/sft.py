"""Supervised fine-tuning on high-demand domains, and the LoRA experts that grow from it, one per domain.

Same objective as pretraining; what differs is the data (top-down domains, diversified prompts) and where the weights start.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from imagewright.config.pretrain import PretrainConfig
from imagewright.config.sft import SftConfig
from imagewright.config.training import TrainingConfig
from imagewright.data.latents import LatentsDataset
from imagewright.data.packed_loader import Batch, PackedLoader
from imagewright.errors import InputError, Problem
from imagewright.methods.pretrain import TRANSFORMER, PretrainMethod, choose_held_out, draw, validation_batches
from imagewright.methods.pretrain_run import Pretraining, run_pretraining, segments, watchers
from imagewright.models.adapters import activate, attach, base_only, save_adapter
from imagewright.models.diffusers_adapter import load_transformer, read_config, save_transformer
from imagewright.models.dit import ErnieImageDiT
from imagewright.tracking.job_run import JobRun
from imagewright.training.archive import ArchivePlace, part_of
from imagewright.training.schedule import learning_rate
from imagewright.training.trainer import Trainer, TrainingPlan
from imagewright.training.world import World

GAIN_LEVELS = 8
BOOTSTRAP_DRAWS = 1000


class SftError(InputError):
    """Data or weights that cannot be fine-tuned on."""


@dataclass(frozen=True)
class SftRun:
    """Everything one fine-tuning run is made from."""

    sft: SftConfig
    training: TrainingConfig
    base: Path
    """Payload folder of the model to start from."""
    base_digest: str
    data: Path
    work: Path
    seed: int
    vae: Path | None = None
    """Folder of the autoencoder that pictures are seen through; none draws no pictures."""
    variants: tuple[tuple[Path, float], ...] = ()
    """Payload folders of earlier fine-tunings of the same base, and their shares of the merged weights; the first process reads them."""
    archive: ArchivePlace | None = None
    """Where checkpoints of the fine-tuning and of the experts are copied to."""


@dataclass(frozen=True)
class Gain:
    """How much lower an expert's validation loss is on its own domain than the SFT model's, as a share, with its 95% interval."""

    value: float
    low: float
    high: float

    def teaches(self, minimum: float) -> bool:
        """Whether the expert beats its base by an interval above `minimum`."""
        return self.low > minimum


def run_sft(settings: SftRun, output: Path, run: JobRun, console: Console | None = None, world: World | None = None) -> dict[str, float]:
    """Fine-tunes, then trains one expert per domain; writes a model payload with `experts/`. Returns headline metrics.

    All processes fine-tune; the experts are small, and the first process alone trains them on the weights that it alone has written.

    Raises SftError when the data holds fewer domains than the configuration names.
    """
    dataset = LatentsDataset(settings.data)
    domains = sorted({name for name in dataset.index.categories if name})
    if len(domains) < len(settings.sft.domains):
        raise SftError(Problem("sft.domains", "are not all in the data", domains, "build the SFT data again with these domains"))
    refuse_strangers(settings)
    start = best_weights(settings.base)
    pretraining = Pretraining(
        model=read_config(start),
        pretrain=PretrainConfig(stages=(settings.sft.stage,), validation_samples=settings.sft.validation_samples),
        training=settings.training,
        latents=settings.data,
        work=settings.work / "sft",
        seed=settings.seed,
        method="sft",
        initial=start,
        parent=settings.base_digest,
        vae=settings.vae,
        archive=part_of(settings.archive, "sft"),
        lora=(settings.sft.lora_rank, settings.sft.lora_alpha) if settings.sft.lora_rank else None,
    )
    world = world or World()
    result, _ = run_pretraining(pretraining, output, run, console=console, world=world)
    if not world.is_first:
        return {}
    if world.size > 1:  # nobody is left to exchange gradients or shards with
        settings = replace(settings, training=settings.training.model_copy(update={"engine": "torch"}))
    before = domain_losses(load_transformer(start), settings, dataset)
    metrics = {"train/final_loss": result.last_loss}
    # A validation loss of the weights before merging would say little of what is handed on.
    metrics |= merge_variants(settings, dataset, output) if settings.variants else result.validation
    tuned = load_transformer(best_weights(output))
    after = domain_losses(tuned, settings, dataset)
    for domain in domains:
        metrics[f"sft/validation_loss_before_{domain}"] = float(np.mean(before[domain]))
        metrics[f"sft/validation_loss_{domain}"] = float(np.mean(after[domain]))
    gains = {domain: train_expert(tuned, domain, settings, dataset, output, run) for domain in domains}
    metrics |= {f"sft/expert_gain_{domain}": gain.value for domain, gain in gains.items()}
    metrics |= {f"sft/expert_gain_{domain}_low": gain.low for domain, gain in gains.items()}
    write_experts(output, gains, settings.sft.min_expert_gain)
    return metrics


def best_weights(payload: Path) -> Path:
    """The moving average of a model payload where there is one, else its weights."""
    return payload / "ema" if (payload / "ema").is_dir() else payload / "transformer"


def held_out_by_domain(settings: SftRun, dataset: LatentsDataset) -> dict[str, list[Batch]]:
    """Validation batches of every domain; the same samples before and after, for the full model and for the experts."""
    held_out = choose_held_out(dataset, settings.sft.validation_samples)
    names = dataset.index.categories
    tokens = settings.sft.stage.batching.pack_tokens
    parts: dict[str, list[Batch]] = {}
    for number, name in enumerate(names):
        mine = frozenset(index for index in held_out if int(dataset.samples[index]["category"]) == number)
        parts[name] = validation_batches(dataset, mine, tokens)
    return parts


@torch.no_grad()
def domain_losses(model: ErnieImageDiT, settings: SftRun, dataset: LatentsDataset) -> dict[str, NDArray[np.float64]]:
    """Velocity loss of every held-out sample, averaged over fixed noise levels with fixed noise: domain -> [n]."""
    method = PretrainMethod(model.eval(), PretrainConfig(stages=(settings.sft.stage,)))
    return {domain: sample_losses(method, batches) for domain, batches in held_out_by_domain(settings, dataset).items()}


@torch.no_grad()
def sample_losses(method: PretrainMethod, batches: Sequence[Batch]) -> NDArray[np.float64]:
    """Loss of each sample over `GAIN_LEVELS` noise levels: [n]."""
    found: list[Tensor] = []
    for batch in batches:
        noise = draw(batch, method.config.stages[0].timesteps)[1]
        levels = [torch.full((len(batch),), (number + 0.5) / GAIN_LEVELS) for number in range(GAIN_LEVELS)]
        found.append(torch.stack([method.losses(batch, level, noise) for level in levels]).double().mean(dim=0))
    return torch.cat(found).numpy() if found else np.zeros(0)


def train_expert(model: ErnieImageDiT, domain: str, settings: SftRun, dataset: LatentsDataset, output: Path, run: JobRun) -> Gain:
    """Trains one adapter on its domain alone, saves it under `experts/<domain>`, and measures its gain on held-out samples."""
    config = settings.sft.experts
    attach(model, domain, rank=config.rank, alpha=config.alpha, seed=settings.seed)
    activate(model, domain)
    number = dataset.index.categories.index(domain)
    others = frozenset(index for index in range(len(dataset)) if int(dataset.samples[index]["category"]) != number)
    held_out = choose_held_out(dataset, settings.sft.validation_samples) | others
    stages = PretrainConfig(stages=(config.stage,))
    method = PretrainMethod(model.train(), stages)
    about = {"method": "expert", "domain": domain, "data": dataset.digest, "parent": settings.base_digest}
    plan = TrainingPlan(
        total_steps=config.stage.steps,
        learning_rates={TRANSFORMER: learning_rate(segments(stages))},
        seed=settings.seed,
        fingerprint={**about, "expert": config.model_dump(mode="json")},
    )
    loader = PackedLoader(dataset, config.stage.batching, seed=settings.seed, held_out=held_out)
    training = settings.training.model_copy(update={"ema_decay": 0.0, "validate_every_steps": 0})
    hooks, archive = watchers(training, run, None, World()), part_of(settings.archive, f"experts/{domain}")
    Trainer(method, loader, training, plan, settings.work / "experts" / domain, run, hooks=hooks, archive=archive).fit()
    save_adapter(model, domain, output / "experts" / domain)
    batches = held_out_by_domain(settings, dataset)[domain]
    model.eval()
    expert = sample_losses(method, batches)
    with base_only(model):
        base = sample_losses(method, batches)
    return gain_of(base, expert, settings.seed)


def gain_of(base: NDArray[np.float64], expert: NDArray[np.float64], seed: int) -> Gain:
    """Relative drop of the mean loss, with a paired bootstrap over samples."""
    if not len(base):
        return Gain(0.0, 0.0, 0.0)
    rng = np.random.default_rng(seed)
    picks = rng.integers(len(base), size=(BOOTSTRAP_DRAWS, len(base)))
    drops = 1.0 - expert[picks].mean(axis=1) / base[picks].mean(axis=1)
    low, high = np.quantile(drops, (0.025, 0.975))
    return Gain(float(1.0 - expert.mean() / base.mean()), float(low), float(high))


def write_experts(output: Path, gains: Mapping[str, Gain], minimum: float) -> None:
    """`experts/experts.json`: every expert's gain and whether it may teach."""
    content = {
        domain: {"gain": gain.value, "low": gain.low, "high": gain.high, "teaches": gain.teaches(minimum)} for domain, gain in gains.items()
    }
    (output / "experts" / "experts.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def refuse_strangers(settings: SftRun) -> None:
    """Raises SftError for a variant that is no fine-tuning of the same base, before anything is trained."""
    for folder, _ in settings.variants:
        about = folder / "training.json"
        told = json.loads(about.read_text(encoding="utf-8")) if about.is_file() else {}
        parent = str(told.get("parent_digest", ""))
        if told.get("method") != "sft" or parent != settings.base_digest:
            fix = f"merge only fine-tunings of {settings.base_digest[:12]}"
            raise SftError(Problem("sft.merge", "must be fine-tunings of the same base", parent[:12] or folder.name[:12], fix))


def merge_variants(settings: SftRun, dataset: LatentsDataset, output: Path) -> dict[str, float]:
    """Replaces the weights just trained by their weighted mean with the variants'; returns their loss by domain before that."""
    unmerged = domain_losses(load_transformer(best_weights(output)), settings, dataset)
    folders, shares = zip(*settings.variants, strict=True)
    models = [load_transformer(best_weights(folder)) for folder in (output, *folders)]
    merged = merge_weights([model.state_dict() for model in models], [1.0 - sum(shares), *shares])
    save_transformer(models[0], output / "transformer", state=merged)
    shutil.rmtree(output / "ema", ignore_errors=True)  # the average of this fine-tuning alone is in the mean
    path = output / "training.json"
    about = json.loads(path.read_text(encoding="utf-8"))
    about["merged"] = {variant.payload: variant.weight for variant in settings.sft.merge}
    path.write_text(json.dumps(about, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return {f"sft/validation_loss_unmerged_{domain}": float(np.mean(losses)) for domain, losses in unmerged.items()}


def merge_weights(states: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> dict[str, Tensor]:
    """theta = sum_i alpha_i theta_i of SFT variants of one base (Z-Image, 2511.22699), in fp32. Raises SftError when they do not fit."""
    if not states or len(states) != len(weights) or abs(sum(weights) - 1.0) > 1e-6:
        raise SftError(Problem("merge.weights", "must be one per variant and sum to 1", list(weights), "normalise the weights"))
    if any(state.keys() != states[0].keys() for state in states):
        raise SftError(Problem("merge.variants", "must be variants of one model", None, "merge only models with equal tensors"))
    return {
        name: sum((weight * state[name].float() for weight, state in zip(weights, states, strict=True)), torch.zeros(())).to(tensor.dtype)
        for name, tensor in states[0].items()
    }
