"""Small sets of preference pairs: low-frequency latents that follow their prompt, against ones that do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pretrain_cases import MODEL, TRAINING

from imagewright.config.dpo import DpoConfig
from imagewright.data.latents import EncodedCaption, LatentsContract, LatentsWriter
from imagewright.data.preferences import Pair, write_pairs
from imagewright.methods.dpo_run import DpoRun
from imagewright.models.diffusers_adapter import save_transformer
from imagewright.models.dit import ErnieImageDiT

CONTRACT = LatentsContract(vae_digest="v" * 64, stride=16, channels=8, text_dim=12, max_tokens=16)


def pair(number: int, **changes: Any) -> Pair:
    """Pair `number`: samples c<number> over r<number>."""
    values: dict[str, Any] = {
        "pair_id": f"p{number}",
        "prompt": f"prompt {number}",
        "chosen_key": f"c{number}",
        "rejected_key": f"r{number}",
        "source": "synthetic",
        "margin": 0.1 + number / 100,
        "chosen_score": 0.1 + number / 100,
        "rejected_score": 0.0,
        "dimension": "shape",
    }
    return Pair(**{**values, **changes})


def write_set(folder: Path, num: int = 12, pairs: list[Pair] | None = None, *, rejected: str = "flipped") -> Path:
    """Writes `num` pairs. rejected: `flipped` latents, `equal` ones, of `other prompt`, `wider`, or `missing`."""
    with LatentsWriter(folder, CONTRACT, torch.zeros(1, 12)) as writer:
        for number in range(num):
            generator = torch.Generator().manual_seed(number)
            words = torch.randn(1 + number % 5, 12, generator=generator)
            noise = 0.2 * torch.randn(8, 4, 4, generator=generator)
            latents = words.mean(dim=0)[:8, None, None] + noise
            writer.add(f"c{number}", latents, [EncodedCaption("short", words)])
            if rejected != "missing":
                other = latents if rejected == "equal" else -latents
                other = torch.cat([other, other], dim=2) if rejected == "wider" else other
                writer.add(f"r{number}", other, [EncodedCaption("short", words + (rejected == "other prompt"))])
    write_pairs(folder, [pair(number) for number in range(num)] if pairs is None else pairs)
    return folder


def write_model(folder: Path, seed: int = 0) -> Path:
    """A model payload whose output is not zero."""
    torch.manual_seed(seed)
    model = ErnieImageDiT(MODEL)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    save_transformer(model, folder / "transformer")
    return folder


def dpo_run(folder: Path, **changes: Any) -> DpoRun:
    """Settings of a tiny run; the model and the pairs are written on first use."""
    if not (folder / "sft").exists():
        write_model(folder / "sft")
    if not (folder / "pairs").exists():
        write_set(folder / "pairs")
    values: dict[str, Any] = {
        "steps": 6,
        "warmup_steps": 0,
        "learning_rate": 1e-5,
        "pairs_per_step": 4,
        "pairs_per_pack": 2,
        "check_every_steps": 2,
        "check_levels": 2,
        "held_out_fraction": 0.3,
    }
    work = changes.pop("work", "work")
    return DpoRun(DpoConfig(**{**values, **changes}), TRAINING, folder / "sft", "a" * 64, folder / "pairs", folder / work, 0)
