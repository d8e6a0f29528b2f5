"""The generator's own pictures are painted, scored and written down as evidence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.curated_scenes import write_curated
from numpy.typing import NDArray

from imagewright.config import load_recipe
from imagewright.errors import InputError
from imagewright.evaluation.aes_agreement import read_evidence
from imagewright.evaluation.aes_quality import StatisticScorer
from imagewright.evaluation.generation import Generator
from imagewright.methods.aesthetic_evidence import EvidenceRun, baseline_of, measure_evidence, metrics_of
from imagewright.models.dit import ErnieImageDiT
from imagewright.models.text_encoder import load_text_encoder
from imagewright.models.vae import build_vae


class Brightness:
    """Prefers bright images."""

    origin = "simulated"

    def score(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return np.asarray(images.mean(axis=(1, 2, 3)) / 2.55, dtype=np.float64)


def settings_for(curated: Path) -> EvidenceRun:
    recipe = load_recipe("debug")
    torch.manual_seed(0)
    model = ErnieImageDiT(recipe.model.model_copy(update={"num_layers": 2})).eval()
    generator = Generator(model, build_vae(recipe.vae).eval(), load_text_encoder(recipe.text_encoder), "tiny", 32)
    aes = recipe.aes.model_copy(update={"evidence_prompts": 5, "evidence_low_steps": (1,)})
    preferences = recipe.preferences.model_copy(update={"num_steps": 2, "batch_size": 4})
    return EvidenceRun(
        aes, preferences, curated, Brightness(), StatisticScorer("contrast"), "a" * 64, generator, "b" * 64, early=generator  # type: ignore[arg-type]
    )  # fmt: skip


def test_every_kind_of_picture_is_measured_on_held_out_scenes(tmp_path: Path) -> None:
    settings = settings_for(write_curated(tmp_path / "curated", 40))
    (tmp_path / "out").mkdir()
    evidence = measure_evidence(settings, tmp_path / "out")
    assert list(evidence.sources) == ["vae_reconstructions", "samples_1_steps", "samples_2_steps", "early_model_2_steps"]
    assert read_evidence(tmp_path / "out") == evidence and (evidence.origin, evidence.baseline) == ("simulated", "contrast")
    assert evidence.sources["samples_2_steps"] == evidence.sources["early_model_2_steps"]  # the same weights here
    assert metrics_of(evidence)["aesthetic/may_rank"] == float(evidence.may_rank)
    assert "simulated" in (tmp_path / "out" / "report.html").read_text()


def test_data_without_held_out_scenes_is_named(tmp_path: Path) -> None:
    settings = settings_for(write_curated(tmp_path / "curated", 20, holdout=0.0, validation=0.0))
    with pytest.raises(InputError, match="must hold held-out scenes"):
        measure_evidence(settings, tmp_path)


def test_the_baseline_is_the_one_the_model_was_held_against(tmp_path: Path) -> None:
    assert baseline_of(tmp_path) == StatisticScorer("sharpness")
    (tmp_path / "metrics.json").write_text(json.dumps({"baseline": {"statistic": "contrast", "sign": -1.0}}))
    assert baseline_of(tmp_path) == StatisticScorer("contrast", -1.0)
