"""The SFT dataset: domains find their samples, and the validation split is measured on, never trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from fixtures.curated_scenes import write_curated
from torch import Tensor

from imagewright.config.latents import EncodingConfig
from imagewright.config.sft import SftConfig
from imagewright.curation.sft_data import build_sft_data
from imagewright.data.latents import EncodedCaption, LatentsContract, LatentsDataset, LatentsWriter
from imagewright.data.pixels import kept_rows
from imagewright.methods.pretrain import choose_held_out


def encode(texts: Sequence[str]) -> list[Tensor]:
    return [torch.zeros(1, 2) for _ in texts]


def test_samples_of_the_validation_split_are_held_out_of_fine_tuning(tmp_path: Path) -> None:
    curated = write_curated(tmp_path / "curated", 120)
    contract = LatentsContract(vae_digest="v" * 64, stride=8, channels=2, text_dim=2, max_tokens=8)
    with LatentsWriter(tmp_path / "latents", contract, torch.zeros(1, 2)) as writer:
        for row in kept_rows(curated, EncodingConfig().splits):
            writer.add(row.sample_key, torch.zeros(2, 4, 4), [EncodedCaption("long", torch.zeros(1, 2))])
    (tmp_path / "sft").mkdir()
    counts = build_sft_data(SftConfig(), curated, tmp_path / "latents", encode, tmp_path / "sft", seed=0)
    dataset = LatentsDataset(tmp_path / "sft")
    validation = {row.sample_key for row in kept_rows(curated, ("validation",))}
    weights = {dataset.sample_key(index): float(dataset.samples[index]["sampling_weight"]) for index in range(len(dataset))}
    assert {key for key, weight in weights.items() if weight == 0} == validation & set(weights)
    assert counts["held_out"] == len(validation & set(weights)) > 4
    held_out = {dataset.sample_key(index) for index in choose_held_out(dataset, 4)}
    assert len(held_out) == 4
    assert held_out <= validation
