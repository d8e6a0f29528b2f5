"""Opens the teachers of a distillation: base, experts that beat it, and the router the configuration asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imagewright.config.distill import DistillConfig, RoutingConfig
from imagewright.data.latents import LatentsDataset
from imagewright.data.packing_plan import stream
from imagewright.diffusion.flow_matching import TIMESTEP_SCALE, add_noise, recover_x0
from imagewright.diffusion.sampler import VelocityModel
from imagewright.errors import Problem
from imagewright.methods.committee import MAX_JSON_BYTES, BaseTeacher, Committee, CommitteeError, SingleTeacher, load_teachers, read_gains
from imagewright.methods.routing import BASE, OBJECTIVES, LearnedGate, Query, Router, RuleTable, SoftRouter
from imagewright.methods.sft import best_weights
from imagewright.models.diffusers_adapter import load_transformer, read_config
from imagewright.models.dit import ErnieImageDiT
from imagewright.models.packing import pack_samples

NUM_PROTOTYPE_PROMPTS = 64
NUM_GATE_SAMPLES = 32
GATE_LEVELS = (0.15, 0.4, 0.65, 0.9)


@dataclass(frozen=True)
class Faculty:
    """Teachers, ready to teach. note: why experts that were given do not teach; empty when they do."""

    base: ErnieImageDiT
    base_folder: Path
    committee: Committee
    gains: Mapping[str, bool]
    note: str = ""

    def report(self, routing: RoutingConfig) -> dict[str, Any]:
        """`routing.json`: the teachers, the table they answer by and who taught what."""
        return {
            "teachers": list(self.committee.teachers),
            "beats_base": dict(self.gains),
            "kind": routing.kind,
            "rules": [rule.model_dump(mode="json") for rule in routing.rules],
            "taught": self.committee.table(),
            "note": self.note,
        }


def open_faculty(
    config: DistillConfig, model: Path, experts: Path | None, dataset: LatentsDataset, seed: int, lineage: tuple[str, str]
) -> Faculty:
    """lineage: digests (model, payload of the experts). Raises CommitteeError for experts of another base or too few of them."""
    domains = list(dataset.index.categories)
    if config.teachers == "single":
        folder = best_weights(experts or model)
        base = frozen(folder)
        return Faculty(base, folder, SingleTeacher(BaseTeacher(base), domains), {})
    source = experts or model
    check_lineage(model, source, *lineage)
    gains = read_gains(source / "experts")
    if len(gains) < 2:
        fix = "train experts of at least two domains, or set distill.teachers: single"
        raise CommitteeError(Problem("experts", "a committee needs at least two", list(gains), fix))
    folder = best_weights(source)
    base = frozen(folder)
    informative = [domain for domain, teaches in gains.items() if teaches]
    teachers = load_teachers(base, source / "experts", informative)
    if not informative:
        note = "committee not informative: no expert beats the model it grew from on its own domain, which teaches alone"
        return Faculty(base, folder, SingleTeacher(BaseTeacher(base), domains), gains, note)
    router = build_router(config.routing, teachers, gains, dataset, seed)
    return Faculty(base, folder, Committee(teachers, router, domains), gains)


def frozen(folder: Path) -> ErnieImageDiT:
    """The base in fp32, without gradients."""
    base = load_transformer(folder, dtype=torch.float32)
    for parameter in base.parameters():
        parameter.requires_grad_(False)
    return base.eval()


def check_lineage(model: Path, source: Path, model_digest: str, source_digest: str) -> None:
    """Experts must come with the model itself, or with the payload it was trained from, in the same shape."""
    problems = []
    if read_config(best_weights(model)) != read_config(best_weights(source)):
        problems.append(Problem("experts", "grew on a model of another shape", str(source), "give the experts of the model's own base"))
    elif model_digest != source_digest and parent_of(model) != source_digest:
        fix = "give the payload that the model was trained from"
        problems.append(Problem("experts", "grew on another base than the model descends from", source_digest, fix))
    if problems:
        raise CommitteeError(problems)


def parent_of(model: Path) -> str:
    """`parent_digest` of a model payload; empty when it tells none."""
    try:
        with (model / "training.json").open("rb") as file:
            return str(json.loads(file.read(MAX_JSON_BYTES)).get("parent_digest", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def build_router(
    config: RoutingConfig, teachers: Mapping[str, VelocityModel], gains: Mapping[str, bool], dataset: LatentsDataset, seed: int
) -> Router:
    """The router the configuration names."""
    names = list(teachers)
    if config.kind == "rules":
        # An expert that does not beat the base must not teach: the base answers for it.
        own = {domain: domain if teaches else BASE for domain, teaches in gains.items()}
        return RuleTable(config.rules, names, present_domains(dataset), own)
    if config.kind == "soft":
        return SoftRouter(torch.stack([prototype(dataset, name, seed) for name in names]), config.temperature)
    gate = LearnedGate(dataset.contract.text_dim, len(names), seed)
    queries, errors = denoising_errors(list(teachers.values()), dataset, seed)
    gate.fit(queries, errors, config.gate_steps)
    return gate


def present_domains(dataset: LatentsDataset) -> list[str]:
    """Domains that hold at least one sample."""
    return [dataset.index.categories[number] for number in sorted({int(number) for number in dataset.samples["category"]})]


def prototype(dataset: LatentsDataset, domain: str, seed: int) -> Tensor:
    """Mean embedding [D] of prompts of a domain; of all prompts for the base."""
    names = dataset.index.categories
    rows = [index for index in range(len(dataset)) if domain == BASE or names[int(dataset.samples[index]["category"])] == domain]
    if not rows:
        raise CommitteeError(Problem("latents", "hold no prompt of an expert's domain", domain, "encode prompts of every domain"))
    chosen = stream("prototype", seed, domain).permutation(rows)[:NUM_PROTOTYPE_PROMPTS]
    return torch.stack([dataset.read(int(index)).prompt_embeds.float().mean(dim=0) for index in chosen]).mean(dim=0)


@torch.no_grad()
def denoising_errors(teachers: Sequence[VelocityModel], dataset: LatentsDataset, seed: int) -> tuple[list[Query], list[Tensor]]:
    """Squared clean-sample error of every teacher on real latents: one query and [B, K] per noise level and objective."""
    chosen = stream("gate", seed, dataset.digest).permutation(len(dataset))[:NUM_GATE_SAMPLES]
    found = [dataset.read(int(index)) for index in chosen]
    prompts, domains = [item.prompt_embeds.float() for item in found], tuple(item.category for item in found)
    generator = torch.Generator().manual_seed(seed)
    queries, errors = [], []
    for level in GATE_LEVELS:
        noised = [
            add_noise(item.latents.float(), torch.randn(item.latents.shape, generator=generator), torch.tensor(level)) for item in found
        ]
        sigmas = torch.full((len(found),), level)
        pack = pack_samples(noised, prompts, sigmas * TIMESTEP_SCALE)
        target = torch.cat([item.latents.float().flatten(1).t() for item in found])
        columns = [
            pack.mean_per_sample((recover_x0(pack.image_tokens, teacher(pack).float(), torch.tensor(level)) - target).square())
            for teacher in teachers
        ]
        for objective in OBJECTIVES:
            queries.append(Query(domains, sigmas, prompts, objective))
            errors.append(torch.stack(columns, dim=1))
    return queries, errors
