"""The SFT dataset: domains find their samples, and the validation split is measured on, never trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from fixtures.curated_scenes import write_curated
from torch import Tensor

from imagewright.config.latents import EncodingConfig
from imagewright.config.sft import SftConfig
from imagewright.curation.domains import Domain
from imagewright.curation.sft_data import build_sft_data, concept_weights
from imagewright.data.latents import EncodedCaption, LatentsContract, LatentsDataset, LatentsWriter
from imagewright.data.manifest import ManifestRow
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
    training = {key: weight for key, weight in weights.items() if weight > 0}
    assert len(set(training.values())) > 1  # rare categories weigh more
    held_out = {dataset.sample_key(index) for index in choose_held_out(dataset, 4)}
    assert len(held_out) == 4
    assert held_out <= validation


def test_rare_concepts_of_a_domain_are_drawn_more_and_its_mean_stays_one() -> None:
    flat, dark = Domain(name="flat", title="flat"), Domain(name="dark", title="dark")

    def row(key: str, category: str, split: str = "train") -> ManifestRow:
        return ManifestRow(key, "s.tar", 0, 1, "0" * 64, category=category, split=split)

    chosen = {f"many-{i}": (flat, row(f"many-{i}", "circle")) for i in range(9)} | {"one": (flat, row("one", "star"))}
    chosen |= {"alone": (dark, row("alone", "circle")), "seen": (flat, row("seen", "circle", "validation"))}
    balanced, natural, even = (concept_weights(chosen, balance) for balance in (0.5, 0.0, 1.0))
    assert set(natural.values()) == {0.0, 1.0}
    assert (balanced["one"], balanced["many-0"]) == (pytest.approx(10 / 4), pytest.approx(10 / 4 / 3))  # shares of sqrt(9) : sqrt(1)
    assert (even["one"], even["many-0"]) == (pytest.approx(5.0), pytest.approx(5 / 9))
    for weights in (balanced, natural, even):
        assert (weights["seen"], weights["alone"]) == (0.0, 1.0)
        assert sum(weights[key] for key in chosen if key not in ("alone", "seen")) == pytest.approx(10)
