"""The further suites on a small curated dataset: what they ask, and whose judge they refuse."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.curated_scenes import write_curated

from imagewright.config.aes import AesConfig
from imagewright.config.evaluation import EvaluationConfig
from imagewright.config.vae import VaeConfig
from imagewright.data.pixels import kept_rows, load_pixels
from imagewright.errors import InputError
from imagewright.evaluation.benchmarks import longtext
from imagewright.evaluation.benchmarks.all_suites import make_suites
from imagewright.evaluation.benchmarks.context import SuiteContext
from imagewright.evaluation.benchmarks.longtext import longtext_suite, texts_of
from imagewright.evaluation.benchmarks.oneig import diversity, own_prompts
from imagewright.evaluation.benchmarks.suite import judge_suite, score_suite
from imagewright.evaluation.judges.verdicts import Prompt
from imagewright.evaluation.suites import LeakError
from imagewright.models.aesthetic import AestheticScorer, Calibration, build_network, save_scorer
from imagewright.models.vae import build_vae, freeze, set_statistics


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> SuiteContext:
    curated = write_curated(tmp_path_factory.mktemp("curated"), 120, holdout=0.3, validation=0.3)
    torch.manual_seed(0)
    vae = freeze(build_vae(VaeConfig(block_out_channels=(8, 8, 8), latent_channels=2, norm_num_groups=4)))
    set_statistics(vae, [torch.rand(16, 3, 32, 32) * 2 - 1])
    config = EvaluationConfig(suites=("dpg",), suite_prompts=4, images_per_prompt=1)
    scenes = load_pixels(curated, side_px=32, splits=("validation", "holdout_compositional"), limit=40, seed=0, only_scenes=True)
    return SuiteContext(config, curated, scenes, vae, 0)


def with_settings(context: SuiteContext, **settings: object) -> SuiteContext:
    return replace(context, config=EvaluationConfig.model_validate(context.config.model_dump() | settings))


def test_ground_truth_answers_every_dense_question(context: SuiteContext) -> None:
    (suite,) = make_suites(context)
    card = suite.card.judges[0]
    assert (card.refused, suite.card.refused) == ("", {})
    assert card.ceiling >= 0.95
    assert max(card.floors.values()) <= 0.05
    splits = ("validation", "holdout_compositional")
    images = load_pixels(context.curated, side_px=32, splits=splits, limit=1000, seed=0, only_scenes=True)
    keys = {row.sample_key: image for row, image in zip(images.rows, images.images, strict=True)}
    painted = np.stack([keys[prompt.prompt_id.removeprefix("dpg-dense-")] for prompt in suite.prompts])
    scores = score_suite(suite, judge_suite(suite, painted, 1), 1, 100)
    assert scores[0].value >= 0.95
    blank = judge_suite(suite, np.full_like(painted, 255), 1)
    assert score_suite(suite, blank, 1, 100)[0].value == 0.0


@pytest.mark.e2e
def test_reader_is_believed_where_text_can_be_read_and_refused_where_not(context: SuiteContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(longtext, "TRIAL_TEXTS", 4)
    readable = longtext_suite(with_settings(context, suites=("longtext",), resolution_px=160, suite_prompts=2))
    assert readable.card.refused == {}
    assert [prompt.task for prompt in readable.judged_prompts()] == ["en", "en", "zh", "zh"]
    tiny = longtext_suite(with_settings(context, suites=("longtext",), resolution_px=32, suite_prompts=2))
    assert "of ground truth right" in tiny.card.refused["suite"]
    assert tiny.judged_prompts() == ()


def test_texts_differ_and_come_in_both_languages() -> None:
    rng = np.random.default_rng(0)
    assert len(set(texts_of("en", 12, rng))) == 12
    assert all(" " not in text for text in texts_of("zh", 12, rng))


def test_benchmark_prompt_that_was_trained_on_stops_everything(context: SuiteContext, tmp_path: Path) -> None:
    caption = kept_rows(context.curated, ("train",))[0].captions[0].text
    text = f'item_id,text,proposition_id,dependency,question_natural_language\na,"{caption}",1,0,Is it so?\n'
    (tmp_path / "dpg.csv").write_text(text)
    file = {"path": str(tmp_path / "dpg.csv"), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    with pytest.raises(LeakError, match="training captions"):
        make_suites(with_settings(context, benchmarks={"dpg": file}))


def test_questions_in_words_need_a_model(context: SuiteContext, tmp_path: Path) -> None:
    text = "item_id,text,proposition_id,dependency,question_natural_language\na,a walrus,1,0,Is there a walrus?\n"
    (tmp_path / "dpg.csv").write_text(text)
    file = {"path": str(tmp_path / "dpg.csv"), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    (suite,) = make_suites(with_settings(context, benchmarks={"dpg": file}))
    assert "question_judge" in suite.card.refused["suite"]
    assert suite.card.source == file["sha256"]


def test_untrained_aesthetic_model_is_refused_and_a_missing_one_is_an_error(context: SuiteContext, tmp_path: Path) -> None:
    asked = with_settings(context, suites=("aes",))
    with pytest.raises(InputError, match="needs the input `aes`"):
        make_suites(asked)
    torch.manual_seed(0)
    config = AesConfig(channels=(4, 8), members=1)
    save_scorer(AestheticScorer(build_network(config), config, Calibration(), "simulated"), tmp_path / "aes")
    (suite,) = make_suites(replace(asked, aes=tmp_path))
    assert suite.card.refused["suite"]
    assert suite.judged_prompts() == ()
    assert "simulated" in suite.card.note


def test_a_detector_that_nobody_tried_scores_nothing(context: SuiteContext, tmp_path: Path) -> None:
    (suite,) = make_suites(with_settings(context, suites=("geneval_coco",), geneval_per_task=2))
    assert len(suite.prompts) == 12
    assert set(suite.card.refused) == set(suite.tasks)
    assert "not tried" in suite.card.refused["single"]
    assert suite.judged_prompts() == ()
    text = '{"tag": "single_object", "prompt": "a photo of a cat", "include": [{"class": "cat", "count": 1}]}'
    (tmp_path / "own.jsonl").write_text(text)
    file = {"path": str(tmp_path / "own.jsonl"), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    (own,) = make_suites(with_settings(context, suites=("geneval_coco",), benchmarks={"geneval_coco": file}))
    assert ([prompt.text for prompt in own.prompts], own.card.source) == (["a photo of a cat"], file["sha256"])
    with pytest.raises(ValueError, match="detector_trial"):
        EvaluationConfig.model_validate({"detector_trial": file})


def test_every_dimension_of_oneig_has_prompts(context: SuiteContext) -> None:
    prompts = own_prompts(context, ("flat", "dark"))
    assert {prompt.task for prompt in prompts} == {"alignment", "text", "reasoning", "style", "diversity"}
    assert len({prompt.prompt_id for prompt in prompts}) == len(prompts)
    reasoning = next(prompt for prompt in prompts if prompt.task == "reasoning")
    assert (reasoning.text, reasoning.truth[0].fact.count) == ("as many circles as a triangle has corners", 3)


def test_diversity_is_none_of_one_image_and_zero_of_equal_ones() -> None:
    def embed(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype(float)

    images = np.zeros((3, 2, 2, 3), np.uint8)
    images[:, 0, 0, 0] = 255
    prompt = Prompt("p", "diversity", "a circle", None)
    assert diversity(images[:1], prompt, embed=embed) == []
    assert diversity(images, prompt, embed=embed) == [pytest.approx(0.0)]
    images[1] = np.roll(images[1], 1, axis=0)
    assert diversity(images[:2], prompt, embed=embed) == [pytest.approx(1.0)]


@pytest.mark.e2e
def test_oneig_scores_what_it_can_and_says_what_it_cannot(context: SuiteContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(longtext, "TRIAL_TEXTS", 2)
    (suite,) = make_suites(with_settings(context, suites=("oneig",), images_per_prompt=2))
    assert "text" in suite.card.refused  # 32 px hold no text
    assert {"alignment", "reasoning"} <= set(suite.judges)
    assert "diversity" in suite.set_judges
    prompts = suite.judged_prompts()
    verdicts = judge_suite(suite, np.zeros((2 * len(prompts), 32, 32, 3), np.uint8), 2)
    scores = {score.task: score.value for score in score_suite(suite, verdicts, 2, 100)}
    assert "overall" not in scores
    assert scores["alignment"] == 0.0
    assert scores["diversity"] == pytest.approx(0.0, abs=1e-6)
