"""What an evaluation leaves behind: scores with intervals, the judge's card, a grid, and a cache that is used."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fixtures.curated_scenes import write_curated
from PIL import Image

from imagewright.config.enhancer import EnhancerConfig
from imagewright.config.evaluation import EvaluationConfig
from imagewright.config.model import ModelConfig
from imagewright.config.text_encoder import TextEncoderConfig
from imagewright.config.vae import VaeConfig
from imagewright.data.manifest import Caption, ManifestRow
from imagewright.data.pixels import kept_rows
from imagewright.errors import InputError
from imagewright.evaluation.enhancement import EnhancerInput
from imagewright.evaluation.generation import StoreCache, cache_key, load_generator, read_png, write_png
from imagewright.evaluation.painting import settings_of
from imagewright.evaluation.results import ModelResult, Results, ResultsError, Score, read_results
from imagewright.evaluation.runner import EvaluatedModel, evaluate, furthest, metrics_of
from imagewright.evaluation.suites import LeakError, refuse_leaks, scene_suite
from imagewright.models.diffusers_adapter import save_transformer
from imagewright.models.dit import ErnieImageDiT
from imagewright.models.language_model import load_language_model, save_language_model
from imagewright.models.text_encoder import load_text_encoder
from imagewright.models.vae import build_vae, freeze, save_vae, set_statistics
from imagewright.storage import open_store

VAE = VaeConfig(block_out_channels=(8, 8, 8), latent_channels=2, norm_num_groups=4)
MODEL = ModelConfig(
    hidden_size=32,
    num_layers=1,
    num_attention_heads=2,
    ffn_hidden_size=32,
    in_channels=8,
    out_channels=8,
    text_in_dim=384,
    rope_axes_dim=(4, 6, 6),
)
CONFIG = EvaluationConfig(
    prompts_per_task=2, images_per_prompt=2, num_steps=2, turbo_steps=1, calibration_images=40, grid_prompts=3, bootstrap_resamples=100
)


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_curated(tmp_path_factory.mktemp("curated"), 150, holdout=0.3, validation=0.3)


@pytest.fixture(scope="module")
def payloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """vae/, base/ (with ema) and turbo/ payload folders."""
    folder = tmp_path_factory.mktemp("payloads")
    torch.manual_seed(0)
    vae = freeze(build_vae(VAE))
    set_statistics(vae, [torch.rand(64, 3, 32, 32) * 2 - 1])
    save_vae(vae, folder / "vae")
    save_transformer(ErnieImageDiT(MODEL), folder / "base" / "ema")
    save_transformer(ErnieImageDiT(MODEL), folder / "turbo" / "transformer")
    return folder


def run(payloads: Path, curated: Path, output: Path, store: Path) -> Results:
    output.mkdir()
    models = [EvaluatedModel("base", payloads / "base", "a" * 64), EvaluatedModel("turbo", payloads / "turbo", "b" * 64)]
    return evaluate(
        CONFIG,
        models,
        vae_folder=payloads / "vae",
        text_encoder=load_text_encoder(TextEncoderConfig()),
        curated=curated,
        cache=StoreCache(open_store(store.as_uri())),
        output=output,
        seed=0,
    )


@pytest.fixture(scope="module")
def results(payloads: Path, curated: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Path]:
    folder = tmp_path_factory.mktemp("evaluation")
    return run(payloads, curated, folder / "out", folder / "store"), folder


def test_every_model_is_scored_on_both_splits_with_intervals(results: tuple[Results, Path]) -> None:
    found = results[0]
    assert [row.lineage for row in found.models] == ["base", "turbo"]
    for row in found.models:
        assert {(score.split, score.task) for score in row.scores} >= {
            ("seen", "overall"),
            ("compositional", "overall"),
            ("seen", "counting"),
        }
        assert all(score.low <= score.value <= score.high for score in row.scores)
        assert all(score.num_images == 2 * score.num_prompts for score in row.scores)
    assert found.models[0].per_prompt.keys() == found.models[1].per_prompt.keys()


def test_judge_is_calibrated_on_the_same_scenes(results: tuple[Results, Path]) -> None:
    card = results[0].judge
    assert card.ceiling >= 0.95
    assert max(card.floors.values()) <= 0.05
    assert card.ceiling_through_vae <= card.ceiling


def test_results_come_back_from_disk(results: tuple[Results, Path]) -> None:
    found, folder = results
    assert read_results(folder / "out") == found
    with Image.open(folder / "out" / found.grid) as grid:
        assert grid.size == (2 * 64 + 2, 3 * 64 + 4)


def test_second_evaluation_takes_every_image_from_the_cache(results: tuple[Results, Path], payloads: Path, curated: Path) -> None:
    found, folder = results
    again = run(payloads, curated, folder / "again", folder / "store")
    assert [row.seconds_per_image for row in again.models] == [0.0, 0.0]
    assert [row.per_prompt for row in again.models] == [row.per_prompt for row in found.models]
    assert (folder / "again" / "grid.png").read_bytes() == (folder / "out" / "grid.png").read_bytes()


def test_headline_metrics_are_those_of_the_furthest_stage(results: tuple[Results, Path]) -> None:
    metrics = metrics_of(results[0])
    assert furthest(results[0]).lineage == "turbo"
    assert metrics["eval/geneval/overall"] == metrics["eval/geneval_turbo/overall"]
    assert "eval/geneval_compositional_base/overall" in metrics


def test_rows_with_enhancer_and_further_suites_stand_beside_the_plain_ones(payloads: Path, curated: Path, tmp_path: Path) -> None:
    save_language_model(load_language_model(EnhancerConfig(max_new_tokens=8)), tmp_path / "enhancer")
    (tmp_path / "out").mkdir()
    more = {"suites": ("dpg",), "suite_prompts": 3, "distribution_images": 6, "enhancer_max_tokens": 8}
    more |= {"enhanced_prompts_per_task": 1, "enhanced_suite_prompts": 2}
    found = evaluate(
        CONFIG.model_copy(update=more),
        [EvaluatedModel("base", payloads / "base", "a" * 64), EvaluatedModel("turbo", payloads / "turbo", "b" * 64)],
        vae_folder=payloads / "vae",
        text_encoder=load_text_encoder(TextEncoderConfig()),
        curated=curated,
        cache=StoreCache(open_store((tmp_path / "store").as_uri())),
        output=tmp_path / "out",
        seed=0,
        enhancer=EnhancerInput(tmp_path / "enhancer", "e" * 64),
    )
    assert [(row.lineage, row.enhancer) for row in found.models] == [("base", False), ("base", True), ("turbo", False), ("turbo", True)]
    plain, enhanced = found.models[:2]
    assert enhanced.per_prompt.keys() < plain.per_prompt.keys()
    assert enhanced.enhancer_fallbacks == 1.0  # random weights write nothing that keeps a prompt
    assert furthest(found) is found.models[2]
    assert "eval/geneval_turbo_enhanced/overall" in metrics_of(found)
    assert (len(plain.further["dpg"]), len(enhanced.further["dpg"])) == (3, 2)
    assert enhanced.further["dpg"].keys() < plain.further["dpg"].keys()
    assert enhanced.enhancer_rates["num_prompts"] == len(enhanced.per_prompt) + 2
    named = [{(s.suite, s.split, s.task) for s in row.scores if not s.suite.startswith("dist")} for row in (plain, enhanced)]
    assert named[0] == named[1]
    # Every expansion was refused, so both rows painted the same prompts with the same noise.
    assert enhanced.per_prompt.items() <= plain.per_prompt.items()
    assert enhanced.further["dpg"].items() <= plain.further["dpg"].items()
    assert distributions(enhanced, "") == [] and len(distributions(plain, "")) == 3
    assert distributions(enhanced, "enhanced") == distributions(plain, "enhanced") != []
    assert {"eval/enhancer_base/gain", "eval/enhancer_base/dpg_gain", "eval/dpg_turbo_enhanced/dense"} <= metrics_of(found).keys()
    assert found.suites[0].judges[0].refused == ""
    assert {"eval/dpg/dense", "eval/distance_base/fd_EffLite3", "eval/distribution/recall_EffLite3"} <= metrics_of(found).keys()
    distance = next(score for score in plain.scores if score.suite == "distance")
    assert distance.low < distance.value < distance.high
    assert (distance.num_prompts, distance.num_images) == (3, 6)
    with Image.open(tmp_path / "out" / found.grid) as grid:
        assert grid.width == 4 * 64 + 6


def distributions(row: ModelResult, split: str) -> list[Score]:
    return [score for score in row.scores if score.suite in ("distance", "distribution") and score.split == split]


def test_turbo_runs_with_few_steps_and_its_own_guidance() -> None:
    assert (settings_of(CONFIG, "turbo").num_steps, settings_of(CONFIG, "turbo").guidance_scale) == (1, 1.0)
    assert (settings_of(CONFIG, "dpo").num_steps, settings_of(CONFIG, "dpo").guidance_scale) == (2, 4.0)


def test_cache_key_changes_with_everything_that_decides_a_pixel() -> None:
    settings = settings_of(CONFIG, "base")
    keys = {
        cache_key("w", "p", 0, settings, ""),
        cache_key("v", "p", 0, settings, ""),
        cache_key("w", "q", 0, settings, ""),
        cache_key("w", "p", 1, settings, ""),
        cache_key("w", "p", 0, settings_of(CONFIG, "turbo"), ""),
        cache_key("w", "p", 0, settings, "enhancer"),
    }
    assert len(keys) == 6


def test_damaged_cached_image_is_painted_again() -> None:
    image = torch.zeros(8, 8, 3, dtype=torch.uint8).numpy()
    assert read_png(write_png(image), 8) is not None
    assert read_png(write_png(image), 16) is None
    assert read_png(b"\x89PNG garbage", 8) is None


def test_model_that_does_not_fit_the_autoencoder_is_refused(payloads: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    other = freeze(build_vae(VAE.model_copy(update={"latent_channels": 3})))
    encoder = load_text_encoder(TextEncoderConfig())
    with pytest.raises(InputError, match=r"model\.in_channels"):
        load_generator(payloads / "base", "a", other, encoder, 4)
    with pytest.raises(InputError, match="must hold one of"):
        load_generator(tmp_path, "a", other, encoder, 4)


def test_suite_asks_only_for_held_out_scenes_with_different_texts(curated: Path) -> None:
    prompts = scene_suite(curated, 3, 0)
    training = {row.sample_key for row in kept_rows(curated, ("train",))}
    assert not training & {prompt.prompt_id for prompt in prompts}
    texts = [(prompt.split, prompt.task, prompt.text) for prompt in prompts]
    assert len(texts) == len(set(texts))
    assert prompts == scene_suite(curated, 3, 0)


def test_leaked_compositional_prompt_stops_the_evaluation(curated: Path) -> None:
    prompts = scene_suite(curated, 3, 0)
    leaked = next(prompt.text for prompt in prompts if prompt.split == "compositional")
    copied = ManifestRow("k", "s", 0, 1, "0" * 64, captions=(Caption("user", "en", leaked.upper() + "."),))
    with pytest.raises(LeakError, match="training captions"):
        refuse_leaks(prompts, [copied])


def test_malformed_results_are_refused(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"schema_version": 9}')
    with pytest.raises(ResultsError, match="results: cannot be read"):
        read_results(tmp_path)
