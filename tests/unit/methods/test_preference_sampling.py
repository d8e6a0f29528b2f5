"""Samples of one prompt become one pair, best over worst; what cannot be told apart becomes none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.curated_scenes import write_curated
from numpy.typing import NDArray

from imagewright.config import load_recipe
from imagewright.data.latents import LatentsDataset
from imagewright.data.preferences import read_pairs
from imagewright.evaluation.generation import Generator
from imagewright.methods.preference_sampling import choose_prompts, sample_preferences
from imagewright.models.dit import ErnieImageDiT
from imagewright.models.text_encoder import load_text_encoder
from imagewright.models.vae import build_vae


class Brightness:
    """Prefers bright images."""

    def score(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Mean brightness, 0..100."""
        scores: NDArray[np.float64] = images.mean(axis=(1, 2, 3)) / 2.55
        return scores


@pytest.fixture(scope="module")
def generator() -> Generator:
    recipe = load_recipe("debug")
    torch.manual_seed(0)
    model = ErnieImageDiT(recipe.model.model_copy(update={"num_layers": 2}))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return Generator(model.eval(), build_vae(recipe.vae).eval(), load_text_encoder(recipe.text_encoder), "tiny", 32)


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_curated(tmp_path_factory.mktemp("curated"), 40)


def test_best_over_worst_of_every_prompt_and_ties_are_counted(tmp_path: Path, generator: Generator, curated: Path) -> None:
    config = load_recipe("debug").preferences.model_copy(update={"aes_weight": 1.0, "min_margin": 0.0, "num_prompts": 4})
    audit, dropped = sample_preferences(config, generator, curated, tmp_path / "a", 0, sampled_from="s" * 64, scorer=Brightness())
    pairs = read_pairs(tmp_path / "a")
    assert audit.usable == len(pairs) == 4 - sum(dropped.values()) > 0
    assert len(LatentsDataset(tmp_path / "a")) == 2 * len(pairs)
    assert all(pair.chosen_score > pair.rejected_score and pair.source == "model" for pair in pairs)
    assert json.loads((tmp_path / "a" / "audit.json").read_text())["ranked_by"] == ["scene grade", "aesthetic"]
    assert (tmp_path / "a" / "pairs.png").exists()
    strict = config.model_copy(update={"min_margin": 2.5})
    audit, dropped = sample_preferences(strict, generator, curated, tmp_path / "b", 0, sampled_from="s" * 64, scorer=Brightness())
    assert (audit.usable, dropped) == (0, {"tie": 4})


def test_prompts_are_different_training_prompts_of_every_task(curated: Path) -> None:
    prompts = choose_prompts(curated, 12, 0)
    assert len({prompt.text for prompt in prompts}) == len(prompts) == 12
    assert {prompt.split for prompt in prompts} == {"train"}
    assert len({prompt.task for prompt in prompts[:6]}) >= 5
