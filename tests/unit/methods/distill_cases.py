"""A tiny SFT payload with two experts, made by hand (random weights), its prompts, and the settings of a tiny distillation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pretrain_cases import MODEL, TRAINING, write_latents

from imagewright.config.distill import DistillConfig, FoldingConfig, HealthConfig, MatchingConfig
from imagewright.methods.mt_dmd_run import Distillation
from imagewright.models.adapters import attach, save_adapter
from imagewright.models.diffusers_adapter import save_transformer
from imagewright.models.dit import ErnieImageDiT
from imagewright.models.packing import Pack, pack_samples

HEALTHY = HealthConfig(
    every_rounds=1, probe_prompts=2, teacher_steps=2, min_ratio=1e-3, max_ratio=1e3, min_diversity=0.0, max_critic_ratio=1e9
)
CONFIG = DistillConfig(
    num_student_steps=3,
    prompts_per_round=3,
    folding=FoldingConfig(steps=2, learning_rate=1e-3, states_per_rollout=2),
    matching=MatchingConfig(rounds=3, critic_updates_per_student=2),
    health=HEALTHY,
)


def random_model(seed: int = 0, scale: float = 0.1) -> ErnieImageDiT:
    """A DiT none of whose weights is zero."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ErnieImageDiT(MODEL)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model


def random_adapter(model: ErnieImageDiT, name: str, seed: int, scale: float = 0.3) -> None:
    """An expert that speaks: fresh adapters say what the base says."""
    attach(model, name, rank=2, alpha=2.0)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if f".{name}." in key:
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))


def write_payload(folder: Path, gains: dict[str, bool] | None = None, seed: int = 0) -> Path:
    """`transformer/`, one expert per domain, `experts.json`."""
    told = {"c0": True, "c1": True} if gains is None else gains
    save_transformer(random_model(seed), folder / "transformer")
    for number, domain in enumerate(told):
        model = random_model(seed)
        random_adapter(model, domain, number + 1)
        save_adapter(model, domain, folder / "experts" / domain)
    (folder / "experts").mkdir(exist_ok=True)
    content = {domain: {"gain": 0.1, "low": 0.1, "high": 0.1, "teaches": teaches} for domain, teaches in told.items()}
    (folder / "experts" / "experts.json").write_text(json.dumps(content))
    return folder


def distillation(folder: Path, work: str = "work", *, gains: dict[str, bool] | None = None, **changes: Any) -> Distillation:
    """Settings over a payload and prompts in `folder`, written on first use."""
    if not (folder / "model").exists():
        write_payload(folder / "model", gains)
        write_latents(folder / "latents", num=12)
    parts = {"distill": CONFIG, "training": TRAINING, "model": folder / "model", "model_digest": "m" * 64, **changes}
    return Distillation(latents=folder / "latents", work=folder / work, **parts)


def random_pack(seed: int = 0, num: int = 4) -> tuple[Pack, tuple[str, ...]]:
    """Noisy latents of mixed sizes at several noise levels, and their domains."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [(4, 4), (2, 6), (3, 3), (4, 2)][:num]
    latents = [torch.randn(MODEL.in_channels, h, w, generator=generator) for h, w in sizes]
    prompts = [torch.randn(length + 1, MODEL.text_in_dim, generator=generator) for length in range(num)]
    return pack_samples(latents, prompts, torch.tensor([100.0, 400.0, 700.0, 1000.0])[:num]), ("c0", "c1", "c0", "c1")[:num]
