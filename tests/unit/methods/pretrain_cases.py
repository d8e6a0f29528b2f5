"""A tiny dataset of latents and the settings of a tiny pretraining run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from imagewright.config.batching import BatchingConfig
from imagewright.config.model import ModelConfig
from imagewright.config.pretrain import PretrainConfig, PretrainStage
from imagewright.config.training import TrainingConfig
from imagewright.data.latents import EncodedCaption, LatentsContract, LatentsDataset, LatentsWriter
from imagewright.methods.pretrain_run import Pretraining

MODEL = ModelConfig(
    hidden_size=32,
    num_layers=2,
    num_attention_heads=2,
    ffn_hidden_size=64,
    in_channels=8,
    out_channels=8,
    text_in_dim=12,
    rope_axes_dim=(4, 6, 6),
)
BATCHING = BatchingConfig(pack_tokens=160, packs_per_step=2, lookahead=32, caption_dropout=0.1)
STAGES = (
    PretrainStage(resolution=64, steps=5, learning_rate=1e-2, warmup_steps=2, batching=BATCHING),
    PretrainStage(resolution=128, steps=4, learning_rate=5e-3, batching=BATCHING.model_copy(update={"pack_tokens": 320})),
)
TRAINING = TrainingConfig(checkpoint_every_steps=2, log_every_steps=2, validate_every_steps=4, ema_decay=0.9)


def write_latents(folder: Path, num: int = 40, channels: int = 8, unseen: int = 0) -> Path:
    """Low-frequency latents that depend on their caption, at 64 px (4x4 cells) and 128 px (8x8), several aspects.

    The first `unseen` samples have weight 0.
    """
    random = np.random.default_rng(0)
    contract = LatentsContract(vae_digest="v" * 64, stride=16, channels=channels, text_dim=12, max_tokens=16)
    with LatentsWriter(folder, contract, torch.zeros(1, 12)) as writer:
        for index in range(num):
            words = torch.randn(int(random.integers(1, 9)), 12, generator=torch.Generator().manual_seed(index))
            captions = [EncodedCaption("long", words), EncodedCaption("tags", words[:1])]
            for scale in (1, 2):
                height, width = [(4, 4), (2, 8), (8, 2)][index % 3]
                latents = words.mean(dim=0)[:channels, None, None] * torch.ones(channels, height * scale, width * scale)
                writer.add(f"k{index}", latents, captions, category=f"c{index % 2}", sampling_weight=float(index >= unseen))
    return folder


def settings(folder: Path, work: str = "work", **changes: Any) -> Pretraining:
    """Settings over the latents in `folder/latents`, written on first use."""
    latents = folder / "latents"
    if not latents.exists():
        write_latents(latents)
    parts = {
        "model": MODEL,
        "pretrain": PretrainConfig(stages=STAGES, validation_samples=4, validation_bins=2),
        "training": TRAINING,
        **changes,
    }
    return Pretraining(latents=latents, work=folder / work, **parts)


def dataset_of(run: Pretraining) -> LatentsDataset:
    """The latents of a run."""
    return LatentsDataset(run.latents)
