"""Domains are asked for in their own words, scored against their own ceiling, and left alone by gates where the autoencoder spoils them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.curated_scenes import write_curated
from numpy.typing import NDArray
from pydantic import ValidationError

from imagewright.config.evaluation import EvaluationConfig
from imagewright.config.vae import VaeConfig
from imagewright.curation.domains import DomainError
from imagewright.data.pixels import load_pixels
from imagewright.evaluation.benchmarks.context import SuiteContext
from imagewright.evaluation.benchmarks.domains import domains_suite
from imagewright.evaluation.benchmarks.suite import judge_suite, score_suite
from imagewright.models.vae import build_vae, freeze, set_statistics

DOMAINS = ("scenes_flat", "scenes_counting")
SPLITS = ("validation", "holdout_compositional")


class Lossless(SuiteContext):
    """An autoencoder that loses nothing."""

    def through_vae(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return images


def context_of(kind: type[SuiteContext], curated: Path, *domains: str) -> SuiteContext:
    torch.manual_seed(0)
    vae = freeze(build_vae(VaeConfig(block_out_channels=(8, 8, 8), latent_channels=2, norm_num_groups=4)))
    set_statistics(vae, [torch.rand(16, 3, 32, 32) * 2 - 1])
    config = EvaluationConfig(suites=("domains",), domains=domains, suite_prompts=4, images_per_prompt=1)
    return kind(config, curated, load_pixels(curated, side_px=32, splits=SPLITS, limit=100, seed=0, only_scenes=True), vae, 0)


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_curated(tmp_path_factory.mktemp("curated"), 160, holdout=0.3, validation=0.3)


def test_ground_truth_of_every_domain_is_right_and_its_prompts_name_what_it_is(curated: Path) -> None:
    context = context_of(Lossless, curated, *DOMAINS)
    suite = domains_suite(context)
    assert (suite.card.refused, suite.card.ungated) == ({}, {})
    rows = {row.sample_key: (row, image) for row, image in zip(context.scenes.rows, context.scenes.images, strict=True)}
    known = [rows[prompt.prompt_id.split("-", 2)[2]] for prompt in suite.prompts]
    assert [prompt.task for prompt in suite.prompts] == ["scenes_flat"] * 4 + ["scenes_counting"] * 4
    assert {row.style for row, _ in known[:4]} == {"flat"}
    assert {prompt.truth.task for prompt in suite.prompts[4:]} == {"counting"}
    painted = np.stack([image for _, image in known])
    scores = score_suite(suite, judge_suite(suite, painted, 1), 1, 100)
    assert {score.task: score.value for score in scores} == {"scenes_flat": 1.0, "scenes_counting": 1.0, "overall": 1.0}
    blank = score_suite(suite, judge_suite(suite, np.full_like(painted, 255), 1), 1, 100)
    assert {score.value for score in blank} == {0.0}


def test_a_domain_that_the_autoencoder_spoils_is_scored_and_not_gated(curated: Path) -> None:
    suite = domains_suite(context_of(SuiteContext, curated, *DOMAINS))
    assert set(suite.judges) == set(DOMAINS)
    assert suite.card.ungated.keys() == {*DOMAINS, "overall"}
    assert "readable, gates take 0.9 or more" in suite.card.ungated["scenes_flat"]
    assert all(card.ceiling_through_vae_by_task for card in suite.card.judges)


def test_a_domain_that_nobody_can_read_is_refused_and_an_unknown_one_is_named(curated: Path) -> None:
    context = context_of(Lossless, curated, "scenes_flat", "poster_design")
    suite = domains_suite(context)
    assert list(suite.card.refused) == ["poster_design"]
    assert "0 held-out ones are in it" in suite.card.refused["poster_design"]
    assert {prompt.task for prompt in suite.judged_prompts()} == {"scenes_flat"}
    images = np.zeros((len(suite.prompts), 32, 32, 3), np.uint8)
    assert [score.task for score in score_suite(suite, judge_suite(suite, images, 1), 1, 100)] == ["scenes_flat"]  # no overall
    with pytest.raises(DomainError, match="no domain has this name"):
        domains_suite(replace(context, config=context.config.model_copy(update={"domains": ("nobody",)})))


def test_the_suite_and_its_list_belong_together() -> None:
    for settings in ({"suites": ("domains",)}, {"domains": ("scenes_flat",)}):
        with pytest.raises(ValidationError, match="belong together"):
            EvaluationConfig.model_validate(settings)
