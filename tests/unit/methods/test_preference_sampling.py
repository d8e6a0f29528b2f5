"""Samples of one prompt become one pair, best over worst; what cannot be told apart becomes none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixtures.curated_scenes import write_curated
from preference_cases import Brightness, small_generator

from imagewright.config import load_recipe
from imagewright.data.latents import LatentsDataset
from imagewright.data.preferences import read_pairs
from imagewright.evaluation.generation import Generator
from imagewright.methods.preference_prompts import choose_prompts
from imagewright.methods.preference_sampling import sample_preferences


@pytest.fixture(scope="module")
def generator() -> Generator:
    return small_generator()


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_curated(tmp_path_factory.mktemp("curated"), 40)


def test_best_over_worst_of_every_prompt_and_ties_are_counted(tmp_path: Path, generator: Generator, curated: Path) -> None:
    config = load_recipe("debug").preferences.model_copy(update={"aes_weight": 1.0, "min_margin": 0.0, "num_prompts": 4})
    built = sample_preferences(config, generator, curated, tmp_path / "a", 0, sampled_from="a" * 64, scorer=Brightness())
    pairs = read_pairs(tmp_path / "a")
    assert built.audit.usable == len(pairs) == 4 - sum(built.dropped.values()) > 0
    assert len(LatentsDataset(tmp_path / "a")) == 2 * len(pairs)
    assert all(pair.chosen_score > pair.rejected_score and pair.source == "model" for pair in pairs)
    assert json.loads((tmp_path / "a" / "audit.json").read_text())["ranked_by"] == ["scene grade", "aesthetic"]
    assert (tmp_path / "a" / "pairs.png").exists()
    strict = config.model_copy(update={"min_margin": 2.5})
    built = sample_preferences(strict, generator, curated, tmp_path / "b", 0, sampled_from="a" * 64, scorer=Brightness())
    assert (built.audit.usable, built.dropped) == (0, {"tie": 4})


def test_prompts_are_different_training_prompts_of_every_task(curated: Path) -> None:
    prompts = choose_prompts(curated, 12, 0)
    assert len({prompt.text for prompt in prompts}) == len(prompts) == 12
    assert {prompt.split for prompt in prompts} == {"train"}
    assert len({prompt.task for prompt in prompts[:6]}) >= 5
