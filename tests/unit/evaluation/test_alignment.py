"""An alignment counts as shown only when the whole interval is above one half and the judge may be believed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fixtures.curated_scenes import write_curated

from imagewright.config.alignment import AlignmentConfig
from imagewright.config.model import ModelConfig
from imagewright.config.text_encoder import TextEncoderConfig
from imagewright.config.vae import VaeConfig
from imagewright.evaluation.alignment import AlignmentVerdict, judge_alignment, wins
from imagewright.evaluation.capability_drift import ArmModel
from imagewright.evaluation.generation import StoreCache
from imagewright.evaluation.statistics import Interval, bootstrap
from imagewright.models.diffusers_adapter import save_transformer
from imagewright.models.dit import ErnieImageDiT
from imagewright.models.text_encoder import load_text_encoder
from imagewright.models.vae import build_vae, freeze, set_statistics
from imagewright.storage import open_store

CONFIG = AlignmentConfig(num_prompts=5, num_steps=2, judge_images=32, judge_steps=2, judge_held_out=12, bootstrap_resamples=100)
MODEL = ModelConfig(
    hidden_size=32, num_layers=1, num_attention_heads=2, ffn_hidden_size=32, in_channels=8, out_channels=8, text_in_dim=384,
    rope_axes_dim=(4, 6, 6),
)  # fmt: skip


def verdict(low: float, accuracy: float = 0.95) -> AlignmentVerdict:
    return AlignmentVerdict(Interval(0.6, low, 0.7), 100, accuracy, Interval(0.0, -0.1, 0.1), 0.95)


def test_an_interval_that_touches_one_half_is_not_shown_and_one_just_above_is() -> None:
    assert not verdict(0.5).shown
    assert verdict(0.5).reason.startswith("not shown: win rate 0.600 [0.500, 0.700]")
    assert verdict(0.5001).shown
    assert verdict(0.5001).reason.startswith("shown")


def test_a_judge_just_below_its_required_accuracy_shows_nothing() -> None:
    assert not verdict(0.6, accuracy=0.9499).shown
    assert "the judge tells only" in verdict(0.6, accuracy=0.9499).reason


def test_ties_count_one_half() -> None:
    assert wins([0.0, 0.0, 0.0], [1.0, 0.0, -1.0]) == [1.0, 0.5, 0.0]
    assert bootstrap(wins([0.0] * 9, [0.0] * 9), 100) == Interval(0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_curated(tmp_path_factory.mktemp("curated"), 90, holdout=0.3, validation=0.3)


def test_the_same_weights_under_two_names_tie_on_every_prompt(tmp_path: Path, curated: Path) -> None:
    torch.manual_seed(0)
    vae = freeze(build_vae(VaeConfig(block_out_channels=(8, 8, 8), latent_channels=2, norm_num_groups=4)))
    set_statistics(vae, [torch.rand(64, 3, 32, 32) * 2 - 1])
    save_transformer(ErnieImageDiT(MODEL), tmp_path / "sft" / "transformer")
    found = judge_alignment(
        CONFIG,
        ArmModel(tmp_path / "sft", "a" * 64),
        ArmModel(tmp_path / "sft", "b" * 64),
        curated,
        vae=vae,
        text_encoder=load_text_encoder(TextEncoderConfig()),
        cache=StoreCache(open_store(f"file://{tmp_path / 'store'}")),
        seed=0,
    )
    assert (found.win_rate, found.ranking_judge_gain.value, found.num_prompts) == (Interval(0.5, 0.5, 0.5), 0.0, 5)
    assert not found.shown
    assert found.metrics()["alignment/shown"] == 0.0
