"""The drift report shows every row, with intervals by domain and skill, and claims only what a paired interval shows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.curated_scenes import write_curated

from imagewright.config.drift import DriftConfig
from imagewright.config.model import ModelConfig
from imagewright.config.text_encoder import TextEncoderConfig
from imagewright.config.vae import VaeConfig
from imagewright.errors import InputError
from imagewright.evaluation.capability_drift import (
    FOLDED,
    TEACHER,
    TURBO,
    Arm,
    ArmModel,
    ArmResult,
    DriftPrompt,
    arms,
    claims,
    drift_prompts,
    measure_drift,
    score_groups,
    worst_drop,
)
from imagewright.evaluation.drift_page import NOT_MEASURED, write_drift
from imagewright.evaluation.generation import StoreCache
from imagewright.evaluation.scene_judge import ScenePrompt
from imagewright.models.diffusers_adapter import save_transformer
from imagewright.models.dit import ErnieImageDiT
from imagewright.models.text_encoder import load_text_encoder
from imagewright.models.vae import build_vae, freeze, load_vae, save_vae, set_statistics
from imagewright.storage import open_store

CONFIG = DriftConfig(num_prompts=6, teacher_steps=2, student_steps=4, bootstrap_resamples=100, grid_prompts=2)
MODEL = ModelConfig(
    hidden_size=32, num_layers=1, num_attention_heads=2, ffn_hidden_size=32, in_channels=8, out_channels=8, text_in_dim=384,
    rope_axes_dim=(4, 6, 6),
)  # fmt: skip
SAID = ScenePrompt((("circle", None),), None, None, "single")


def prompts(count: int) -> list[DriftPrompt]:
    """Prompts of two domains in turn."""
    return [DriftPrompt(f"p{number}", "a circle", SAID, (f"domain d{number % 2}", "skill single")) for number in range(count)]


def result(name: str, steps: int, values: list[float]) -> ArmResult:
    """A measured row."""
    per_prompt = {f"p{number}": value for number, value in enumerate(values)}
    return ArmResult(Arm(name, name, steps, 1.0), score_groups(prompts(len(values)), per_prompt, 100), per_prompt)


def test_every_row_is_there_at_whole_and_at_half_steps() -> None:
    rows = arms(DriftConfig())
    assert [(row.name, row.num_steps, row.num_evaluations) for row in rows] == [
        ("teacher", 50, 100),
        ("undistilled", 8, 8),
        ("undistilled", 4, 4),
        ("undistilled, guided", 4, 8),
        ("undistilled, guided", 2, 4),
        ("folded only", 8, 8),
        ("folded only", 4, 4),
        ("single-teacher DMD", 8, 8),
        ("single-teacher DMD", 4, 4),
        ("MT-DMD", 8, 8),
        ("MT-DMD", 4, 4),
    ]


def test_the_worst_domain_is_named_with_its_paired_drop() -> None:
    student = {"p0": 1.0, "p1": 0.0, "p2": 1.0, "p3": 0.0}
    name, drop = worst_drop(prompts(4), student, dict.fromkeys(student, 1.0))
    assert (name, drop.value, drop.high) == ("domain d1", -1.0, -1.0)


def test_a_student_that_loses_exactly_the_allowed_share_is_not_inferior_and_one_that_loses_more_is() -> None:
    teacher = result(TEACHER, 50, [1.0] * 40)
    just = [teacher, result(TURBO, 8, [0.95] * 40), result(TURBO, 4, [0.5] * 40)]
    below = [teacher, result(TURBO, 8, [0.949] * 40), result(TURBO, 4, [0.5] * 40)]
    assert [claim.holds for claim in claims(DriftConfig(), just)] == [True]
    assert [claim.holds for claim in claims(DriftConfig(), below)] == [False]


def test_beating_folding_at_half_the_steps_needs_an_interval_above_zero() -> None:
    whole = [result(name, 8, [1.0] * 40) for name in (FOLDED, TURBO)]
    teacher = result(TEACHER, 50, [1.0] * 40)
    equal = [teacher, *whole, result(FOLDED, 4, [0.5] * 40), result(TURBO, 4, [0.5] * 40)]
    better = [teacher, *whole, result(FOLDED, 4, [0.5] * 40), result(TURBO, 4, [0.75] * 40)]
    name = "MT-DMD beats folding at 4 NFE"
    assert [claim.holds for claim in claims(DriftConfig(), equal) if claim.name == name] == [False]
    assert [claim.holds for claim in claims(DriftConfig(), better) if claim.name == name] == [True]


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_curated(tmp_path_factory.mktemp("curated"), 80, holdout=0.3, validation=0.3)


def test_prompts_are_held_out_name_their_style_and_belong_to_domains_and_skills(curated: Path) -> None:
    found = drift_prompts(curated, ("scenes_flat", "scenes_counting"), 12, seed=0)
    assert len({prompt.text for prompt in found}) == len(found) == 12
    groups = {group for prompt in found for group in prompt.groups}
    assert {"domain scenes_flat", "domain scenes_counting", "skill single", "skill position"} <= groups
    assert all("background" in prompt.text for prompt in found)


def test_data_without_held_out_scenes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holdout_fraction"):
        drift_prompts(write_curated(tmp_path, 12, holdout=0.0, validation=0.0), ("scenes_flat",), 6, seed=0)


def test_the_page_shows_measured_rows_and_says_which_have_no_model(tmp_path: Path, curated: Path) -> None:
    torch.manual_seed(0)
    vae = freeze(build_vae(VaeConfig(block_out_channels=(8, 8, 8), latent_channels=2, norm_num_groups=4)))
    set_statistics(vae, [torch.rand(64, 3, 32, 32) * 2 - 1])
    save_vae(vae, tmp_path / "vae")
    save_transformer(ErnieImageDiT(MODEL), tmp_path / "sft" / "transformer")
    save_transformer(ErnieImageDiT(MODEL), tmp_path / "turbo" / "transformer")
    models = {TEACHER: ArmModel(tmp_path / "sft", "a" * 64), TURBO: ArmModel(tmp_path / "turbo", "b" * 64)}
    report, columns = measure_drift(
        CONFIG,
        models,
        drift_prompts(curated, ("scenes_flat",), CONFIG.num_prompts, seed=0),
        vae=load_vae(tmp_path / "vae"),
        text_encoder=load_text_encoder(TextEncoderConfig()),
        cache=StoreCache(open_store(f"file://{tmp_path / 'store'}")),
        seed=0,
    )
    (tmp_path / "out").mkdir()
    routing = {"taught": {"scenes_flat": {"DM": {"0-0.25": {"base": 3.0}}}}, "note": ""}
    page = write_drift(report, columns, routing, tmp_path / "out").read_text(encoding="utf-8")
    assert page.count(NOT_MEASURED) == 4, "folded and single-teacher rows, at whole and half steps"
    assert "MT-DMD, 4 steps, g 1 (4 NFE)" in page
    assert "base 3" in page
    assert [np.shape(column) for column in columns] == [(2, 32, 32, 3)] * 7
    told = json.loads((tmp_path / "out" / "drift.json").read_text(encoding="utf-8"))
    assert len(told["rows"]) == 11
    assert "drift/mt_dmd_4_nfe" in report.metrics()
