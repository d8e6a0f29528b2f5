"""Prompts that quote text are ranked by what OCR reads, where it could read a perfect sample at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from preference_cases import small_generator

from imagewright.config import load_recipe
from imagewright.config.data import DataConfig
from imagewright.data.preferences import PreferenceError, read_pairs
from imagewright.evaluation.generation import Generator
from imagewright.evaluation.judges.text import typeset
from imagewright.methods.preference_prompts import text_grade, text_prompts
from imagewright.methods.preference_sampling import sample_preferences
from imagewright.models.packing import Pack
from imagewright.models.vae import encode
from imagewright.models.vae_training import to_input
from imagewright.sources.ingest import ingest

SIDE_PX = 128


class PixelAutoencoder(torch.nn.Module):
    """Loses nothing: its latents are the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.config = {"patch_size": (2, 2), "latent_channels": 3, "block_out_channels": [1]}
        self.bn = torch.nn.BatchNorm1d(12, affine=False)

    def encode(self, images: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: images))

    def decode(self, latents: torch.Tensor, return_dict: bool) -> tuple[torch.Tensor]:
        return (latents,)


class Painter:
    """A model that paints given images [H, W, 3] in turn, in one step without guidance."""

    def __init__(self, vae: PixelAutoencoder, images: list[NDArray[np.uint8]]) -> None:
        self.vae, self.images = vae, images

    def __call__(self, pack: Pack) -> torch.Tensor:
        mine, self.images = self.images[: len(pack)], self.images[len(pack) :]
        pixels = torch.from_numpy(np.stack(mine).transpose(0, 3, 1, 2).copy())
        latents = encode(self.vae, to_input(pixels))
        return pack.image_tokens - torch.cat([latent.flatten(1).T for latent in latents])


@pytest.fixture(scope="module")
def generator() -> Generator:
    return small_generator()


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes and four English posters, all for training."""
    tree = {
        "scenes": {"num_samples": 2, "holdout_fraction": 0.0, "validation_fraction": 0.0},
        "posters": {"num_samples": 4, "languages": ["en"], "validation_fraction": 0.0},
    }
    folder = tmp_path_factory.mktemp("posters")
    ingest(DataConfig.model_validate(tree), folder, 0)
    return folder


def test_a_prompt_quotes_all_it_can_of_the_visible_text(curated: Path) -> None:
    prompts = text_prompts(curated, 0)
    assert len(prompts) == 4 and {prompt.task for prompt in prompts} == {"text"}
    for prompt in prompts:
        assert all(line in prompt.text for line in prompt.quoted.split("\n"))
    assert any("\n" in prompt.quoted for prompt in prompts)


def test_a_sample_is_graded_by_the_share_of_the_text_that_is_read() -> None:
    graded = text_grade(typeset("BIG SALE", SIDE_PX), "BIG SALE\nTODAY ONLY")
    assert graded.dimensions == {"text": 0.5} and graded.share == 0.5


def test_the_sample_whose_text_can_be_read_is_preferred(curated: Path, generator: Generator, tmp_path: Path) -> None:
    vae = PixelAutoencoder().eval()
    changes = {
        "text_prompts": 2,
        "num_prompts": 1,
        "samples_per_prompt": 2,
        "num_steps": 1,
        "guidance_scale": 1.0,
        "resolution_px": SIDE_PX,
    }
    config = load_recipe("debug").preferences.model_copy(update=changes)
    first, second = text_prompts(curated, 0)[:2]
    blank = np.full((SIDE_PX, SIDE_PX, 3), 200, np.uint8)
    # In the order they are sampled: a scene, then text; the second text prompt comes after both.
    painted = [blank, blank, blank, typeset(first.quoted, SIDE_PX), typeset(second.quoted, SIDE_PX), blank]
    painter = replace(generator, model=Painter(vae, painted), vae=vae)
    built = sample_preferences(config, painter, curated, tmp_path, 0, sampled_from="a" * 64)
    pairs = read_pairs(tmp_path)
    assert [(pair.prompt, pair.dimension, pair.chosen_score, pair.rejected_score) for pair in pairs] == [
        (first.text, "text", 1.0, 0.0),
        (second.text, "text", 1.0, 0.0),
    ]
    assert built.dropped == {"tie": 1}
    about = json.loads((tmp_path / "audit.json").read_text())
    assert about["ranked_by"] == ["scene grade", "text"] and about["text_reader"]["ceiling_through_vae"] == 1.0


def test_text_that_cannot_be_read_behind_the_autoencoder_is_refused(curated: Path, generator: Generator, tmp_path: Path) -> None:
    config = load_recipe("debug").preferences.model_copy(update={"text_prompts": 2})
    says = r"preferences\.text_prompts: needs OCR to read 0\.95 .* 32 px .*received 0\.0; fix: raise preferences\.resolution_px, or set"
    with pytest.raises(PreferenceError, match=says):
        sample_preferences(config, generator, curated, tmp_path, 0, sampled_from="a" * 64)


def test_too_few_rows_with_text_are_refused(curated: Path, generator: Generator, tmp_path: Path) -> None:
    config = load_recipe("debug").preferences.model_copy(update={"text_prompts": 1})
    with pytest.raises(PreferenceError, match="at least two different visible texts"):
        sample_preferences(config, generator, curated, tmp_path, 0, sampled_from="a" * 64)
