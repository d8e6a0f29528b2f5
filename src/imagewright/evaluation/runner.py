"""Evaluates models side by side: calibrated judge first, then the same prompts and seeds for every model, scores with intervals."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imagewright.config.evaluation import EvaluationConfig
from imagewright.data.pixels import PixelSet, load_pixels
from imagewright.evaluation import palette, scene_judge
from imagewright.evaluation.calibration import calibrate, require_trustworthy
from imagewright.evaluation.distribution import EffLite3, compare_distributions
from imagewright.evaluation.generation import Enhance, GenerationCache, SamplerSettings, generate, load_generator
from imagewright.evaluation.grid import write_grid
from imagewright.evaluation.results import JudgeCard, ModelResult, Results, Score, write_results
from imagewright.evaluation.scene_judge import judge
from imagewright.evaluation.statistics import bootstrap, bootstrap_groups
from imagewright.evaluation.suites import SUITE, SuitePrompt, scene_suite
from imagewright.evaluation.vae_quality import as_images, as_tensor
from imagewright.models.text_encoder import TextEncoder
from imagewright.models.vae import Autoencoder, load_vae
from imagewright.models.vae_training import reconstruct

GRID_NAME = "grid.png"
LINEAGE = ("base", "sft", "dpo", "turbo")


@dataclass(frozen=True)
class EvaluatedModel:
    """One model to evaluate: payload folder, digest, and an optional enhancer (its digest and its rewriting function)."""

    lineage: str
    payload: Path
    weights_digest: str
    revision: str = ""
    enhancer: str = ""
    enhance: Enhance | None = None


def evaluate(
    config: EvaluationConfig,
    models: Sequence[EvaluatedModel],
    *,
    vae_folder: Path,
    text_encoder: TextEncoder,
    curated: Path,
    cache: GenerationCache,
    output: Path,
    seed: int,
) -> Results:
    """Writes results.json and the grid into `output`. Raises JudgeRefusedError or LeakError before anything is painted."""
    vae = load_vae(vae_folder)
    scenes = load_pixels(
        curated,
        side_px=config.resolution_px,
        splits=("validation", "holdout_compositional"),
        limit=config.calibration_images,
        seed=seed,
        only_scenes=True,
    )
    card = judge_card(scenes, vae, config.batch_size)
    prompts = scene_suite(curated, config.prompts_per_task, seed)
    features = EffLite3() if config.distribution_images else None
    rows, columns = [], []
    shown = choose_shown(prompts, config.grid_prompts)
    for model in models:
        painted, row = evaluate_model(config, model, prompts, vae, text_encoder, cache, seed)
        if features is not None:
            measured = compare_distributions(scenes.images[: config.distribution_images], painted[: config.distribution_images], features)
            row = row.model_copy(update={"distribution": measured})
        rows.append(row)
        columns.append([painted[index * config.images_per_prompt] for index in shown])
    write_grid(columns, output / GRID_NAME)
    results = Results(
        judge=card,
        prompts={prompt.prompt_id: prompt.text for prompt in prompts},
        images_per_prompt=config.images_per_prompt,
        resolution_px=config.resolution_px,
        models=rows,
        grid=GRID_NAME,
        grid_prompts=[prompts[index].prompt_id for index in shown],
    )
    write_results(results, output)
    return results


def judge_card(scenes: PixelSet, vae: Autoencoder, batch_size: int) -> JudgeCard:
    """Calibrates the scene judge on ground truth, directly and through the autoencoder. Raises JudgeRefusedError."""
    truths = [row.scene for row in scenes.rows]
    direct = calibrate(list(scenes.images), truths)
    require_trustworthy(direct)
    through = calibrate(list(as_images(reconstruct(vae, as_tensor(scenes.images), batch_size))), truths)
    source = b"".join(Path(module.__file__ or "").read_bytes() for module in (scene_judge, palette))
    return JudgeCard(
        name="scene judge",
        digest=hashlib.sha256(source).hexdigest(),
        num_images=direct.num_images,
        ceiling=direct.ceiling,
        ceiling_through_vae=through.ceiling,
        floors=direct.floors,
        ceiling_by_task=direct.ceiling_by_task,
        ceiling_through_vae_by_task=through.ceiling_by_task,
        confusion=direct.confusion,
    )


def settings_of(config: EvaluationConfig, lineage: str) -> SamplerSettings:
    """Sampler of a lineage: turbo has few steps and its guidance inside."""
    steps, guidance = (config.turbo_steps, config.turbo_guidance_scale) if lineage == "turbo" else (config.num_steps, config.guidance_scale)
    return SamplerSettings(steps, guidance, config.shift, config.resolution_px)


def evaluate_model(
    config: EvaluationConfig,
    model: EvaluatedModel,
    prompts: Sequence[SuitePrompt],
    vae: Autoencoder,
    text_encoder: TextEncoder,
    cache: GenerationCache,
    seed: int,
) -> tuple[NDArray[np.uint8], ModelResult]:
    """Paints every prompt images_per_prompt times and judges; returns the images in prompt order and the model's row."""
    generator = load_generator(model.payload, model.weights_digest, vae, text_encoder, config.batch_size)
    settings = settings_of(config, model.lineage)
    requests = [(prompt.text, image_seed(seed, prompt.prompt_id, copy)) for prompt in prompts for copy in range(config.images_per_prompt)]
    painted, seconds = generate(generator, requests, settings, cache, enhance=model.enhance, enhancer=model.enhancer)
    images = np.stack(painted)
    per_prompt = {}
    for index, prompt in enumerate(prompts):
        mine = images[index * config.images_per_prompt : (index + 1) * config.images_per_prompt]
        per_prompt[prompt.prompt_id] = float(np.mean([judge(image, prompt.said) for image in mine]))
    row = ModelResult(
        lineage=model.lineage,
        weights_digest=model.weights_digest,
        revision=model.revision,
        enhancer=model.enhance is not None,
        num_steps=settings.num_steps,
        guidance_scale=settings.guidance_scale,
        shift=settings.shift,
        seconds_per_image=seconds,
        scores=score_prompts(prompts, per_prompt, config),
        per_prompt=per_prompt,
    )
    return images, row


def image_seed(seed: int, prompt_id: str, copy: int) -> int:
    """The noise of one image: the same for every model."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{prompt_id}/{copy}".encode()).digest()[:7], "big")


def score_prompts(prompts: Sequence[SuitePrompt], per_prompt: Mapping[str, float], config: EvaluationConfig) -> list[Score]:
    """Scores of every split: each task, and overall as the unweighted mean of its tasks."""
    groups: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for prompt in prompts:
        groups[prompt.split][prompt.task].append(per_prompt[prompt.prompt_id])
    scores = []
    for split, tasks in sorted(groups.items(), reverse=True):
        for task, values in tasks.items():
            scores.append(one_score(split, task, asdict(bootstrap(values, config.bootstrap_resamples)), len(values), config))
        total = sum(len(values) for values in tasks.values())
        scores.append(one_score(split, "overall", asdict(bootstrap_groups(tasks, config.bootstrap_resamples)), total, config))
    return scores


def one_score(split: str, task: str, interval: Mapping[str, float], num_prompts: int, config: EvaluationConfig) -> Score:
    """A score row."""
    num_images = num_prompts * config.images_per_prompt
    return Score(suite=SUITE, split=split, task=task, num_prompts=num_prompts, num_images=num_images, **interval)


def choose_shown(prompts: Sequence[SuitePrompt], count: int) -> list[int]:
    """Positions of the prompts in the grid: spread evenly over splits and tasks."""
    return sorted({int(position) for position in np.linspace(0, len(prompts) - 1, min(count, len(prompts)))})


def metrics_of(results: Results) -> dict[str, float]:
    """Headline metrics: `eval/<suite>/<task>` of the furthest stage (seen prompts), `..._compositional`, and the overall of every stage."""
    metrics: dict[str, float] = {}
    for row in results.models:
        name = row.lineage + ("_enhanced" if row.enhancer else "")
        for score in row.scores:
            suite = score.suite if score.split == "seen" else f"{score.suite}_{score.split}"
            headline = row is furthest(results)
            metrics |= {f"eval/{suite}/{score.task}": score.value} if headline else {}
            if headline and score.task == "overall":
                metrics |= {f"eval/{suite}/overall_low": score.low, f"eval/{suite}/overall_high": score.high}
            metrics |= {f"eval/{suite}_{name}/{score.task}": score.value} if score.task == "overall" else {}
        metrics |= {f"eval/distribution_{name}/{key}": value for key, value in row.distribution.items()}
    metrics |= {"eval/judge/ceiling": results.judge.ceiling, "eval/judge/ceiling_through_vae": results.judge.ceiling_through_vae}
    return metrics | {"eval/judge/worst_floor": max(results.judge.floors.values())}


def furthest(results: Results) -> ModelResult:
    """The row of the last stage without enhancer: the one that would be promoted."""
    plain = [row for row in results.models if not row.enhancer] or results.models
    return max(plain, key=lambda row: LINEAGE.index(row.lineage) if row.lineage in LINEAGE else -1)
