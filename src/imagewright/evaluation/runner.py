"""Evaluates models side by side: calibrated judge first, then the same prompts and seeds for every model, scores with intervals."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imagewright.config.evaluation import EvaluationConfig
from imagewright.data.pixels import PixelSet, load_pixels
from imagewright.evaluation import palette, scene_judge
from imagewright.evaluation.benchmarks.all_suites import make_suites
from imagewright.evaluation.benchmarks.context import SuiteContext
from imagewright.evaluation.benchmarks.human import read_answers
from imagewright.evaluation.benchmarks.suite import Suite
from imagewright.evaluation.calibration import calibrate, require_trustworthy
from imagewright.evaluation.distribution import DISTANCE, distribution_measure
from imagewright.evaluation.distribution import SUITE as DISTRIBUTION
from imagewright.evaluation.enhancement import Enhancement, EnhancerInput, enhance_prompts
from imagewright.evaluation.enhancer_rows import enhancer_metrics
from imagewright.evaluation.generation import GenerationCache, Generator, load_generator
from imagewright.evaluation.grid import write_grid
from imagewright.evaluation.painting import Easel, paint_prompts, settings_of
from imagewright.evaluation.results import JudgeCard, ModelResult, Results, Score, write_results
from imagewright.evaluation.scene_judge import judge
from imagewright.evaluation.score_table import TOTALS
from imagewright.evaluation.statistics import bootstrap, bootstrap_groups
from imagewright.evaluation.suite_rows import add_suites, enhanced_suites, first_of_each
from imagewright.evaluation.suites import SPLITS, SUITE, SuitePrompt, scene_suite
from imagewright.evaluation.vae_quality import as_images, as_tensor
from imagewright.models.text_encoder import TextEncoder
from imagewright.models.vae import Autoencoder, load_vae
from imagewright.models.vae_training import reconstruct
from imagewright.tracking.lineage_names import IMAGE_MODELS

GRID_NAME = "grid.png"
ENHANCED = "enhanced"
"""Split of scores on the prompts that the enhancer expanded, where it did not expand all."""


@dataclass(frozen=True)
class EvaluatedModel:
    """One model to evaluate: payload folder and digest."""

    lineage: str
    payload: Path
    weights_digest: str
    revision: str = ""


@dataclass(frozen=True)
class Way:
    """One of the two ways every model is asked: prompts as they are, or expanded; the expanded ones are among the plain ones."""

    prompts: list[SuitePrompt]
    suites: list[Suite]
    enhancement: Enhancement | None = None


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
    enhancer: EnhancerInput | None = None,
    aes: Path | None = None,
) -> Results:
    """Writes results.json and the grid; given an enhancer, every model has two rows, of the same suites and measures.

    A further suite with a refused judge has no scores.
    Raises JudgeRefusedError or LeakError before anything is painted.
    """
    vae = load_vae(vae_folder)
    scenes = held_out_scenes(config, curated, seed)
    card = judge_card(scenes, vae, config.batch_size)
    prompts = scene_suite(curated, config.prompts_per_task, seed)
    suites = make_suites(SuiteContext(config, curated, scenes, vae, seed, aes))
    forms = read_answers(config.human) if config.human is not None else {}
    ways = ways_of(config, prompts, suites, enhancer, text_encoder)
    asked = ways[-1].prompts
    measure = distribution_measure(config, scenes.images)
    easel = Easel(config, vae, text_encoder, cache, seed)
    shown = choose_shown(asked, config.grid_prompts)
    rows, columns = [], []
    for model in models:
        generator = load_generator(model.payload, model.weights_digest, vae, text_encoder, config.batch_size)
        for way in ways:
            images, row = evaluate_model(easel, model, generator, way.prompts, way.enhancement)
            row = row.model_copy(update={"scores": [*row.scores, *distributions(measure, images, way, prompts, asked, config)]})
            rows.append(add_suites(easel, generator, row, way.suites, forms, way.enhancement))
            columns.append(list(images[places(way.prompts, shown, config)[:: config.images_per_prompt]]))
    write_grid(columns, output / GRID_NAME)
    results = Results(
        judge=card,
        prompts=texts_of(prompts),
        images_per_prompt=config.images_per_prompt,
        resolution_px=config.resolution_px,
        models=rows,
        suites=[suite.card for suite in suites],
        grid=GRID_NAME,
        grid_prompts=list(texts_of(shown)),
    )
    write_results(results, output)
    return results


def held_out_scenes(config: EvaluationConfig, curated: Path, seed: int) -> PixelSet:
    """Ground truth the judges are tried on, at the size models are painted."""
    side, splits = config.resolution_px, tuple(SPLITS.values())
    return load_pixels(curated, side_px=side, splits=splits, limit=config.calibration_images, seed=seed, only_scenes=True)


def texts_of(prompts: Sequence[SuitePrompt]) -> dict[str, str]:
    """Prompt id -> text."""
    return {prompt.prompt_id: prompt.text for prompt in prompts}


def ways_of(
    config: EvaluationConfig, prompts: list[SuitePrompt], suites: list[Suite], enhancer: EnhancerInput | None, encoder: TextEncoder
) -> list[Way]:
    """Every prompt as it is; given an enhancer, then the configured share of them expanded."""
    plain = Way(prompts, suites)
    if enhancer is None:
        return [plain]
    asked = first_of_each(prompts, config.enhanced_prompts_per_task)
    asked_suites = enhanced_suites(suites, config.enhanced_suite_prompts)
    texts = [prompt.text for prompt in asked] + [prompt.text for suite in asked_suites for prompt in suite.prompts]
    return [plain, Way(asked, asked_suites, enhance_prompts(enhancer, texts, encoder, config))]


def distributions(
    measure: Callable[[NDArray[np.uint8]], list[Score]],
    images: NDArray[np.uint8],
    way: Way,
    prompts: Sequence[SuitePrompt],
    asked: Sequence[SuitePrompt],
    config: EvaluationConfig,
) -> list[Score]:
    """Scores of a row's images of all prompts; where the enhancer expanded fewer, of those in a split of their own, for both rows.

    A distance rises when there are fewer images, so the two are never held against each other.
    """
    found = measure(images) if len(way.prompts) == len(prompts) else []
    if len(asked) < len(prompts):
        found += [score.model_copy(update={"split": ENHANCED}) for score in measure(images[places(way.prompts, asked, config)])]
    return found


def places(prompts: Sequence[SuitePrompt], wanted: Sequence[SuitePrompt], config: EvaluationConfig) -> list[int]:
    """Where the images of the wanted prompts lie among those of all prompts, in the wanted order."""
    at = {prompt.prompt_id: index * config.images_per_prompt for index, prompt in enumerate(prompts)}
    return [at[prompt.prompt_id] + copy for prompt in wanted for copy in range(config.images_per_prompt)]


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


def evaluate_model(
    easel: Easel,
    model: EvaluatedModel,
    generator: Generator,
    prompts: Sequence[SuitePrompt],
    enhancement: Enhancement | None = None,
) -> tuple[NDArray[np.uint8], ModelResult]:
    """Paints every prompt images_per_prompt times and judges; returns the images in prompt order and the model's row.

    With an enhancer the expanded prompt is painted, and the prompt as it was asked is judged.
    """
    config, settings = easel.config, settings_of(easel.config, model.lineage)
    images, seconds = paint_prompts(easel, model.lineage, generator, [(p.prompt_id, p.text) for p in prompts], enhancement)
    per_prompt = {}
    for index, prompt in enumerate(prompts):
        mine = images[index * config.images_per_prompt : (index + 1) * config.images_per_prompt]
        per_prompt[prompt.prompt_id] = float(np.mean([judge(image, prompt.said) for image in mine]))
    row = ModelResult(
        lineage=model.lineage,
        weights_digest=model.weights_digest,
        revision=model.revision,
        enhancer=enhancement is not None,
        num_steps=settings.num_steps,
        guidance_scale=settings.guidance_scale,
        shift=settings.shift,
        seconds_per_image=seconds,
        scores=score_prompts(prompts, per_prompt, config),
        per_prompt=per_prompt,
        enhancer_fallbacks=enhancement.fallback_share if enhancement else 0.0,
        enhancer_rates=enhancement.rates() if enhancement else {},
    )
    return images, row


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


def choose_shown(prompts: Sequence[SuitePrompt], count: int) -> list[SuitePrompt]:
    """The prompts in the grid: spread evenly over splits and tasks."""
    return [prompts[i] for i in sorted({int(place) for place in np.linspace(0, len(prompts) - 1, min(count, len(prompts)))})]


def metrics_of(results: Results) -> dict[str, float]:
    """Headline metrics: `eval/<suite>/<task>` of the furthest stage (seen prompts), `..._compositional`, and of every row the
    overall, or the one task a suite has."""
    metrics: dict[str, float] = {}
    for row in results.models:
        name = row.lineage + ("_enhanced" if row.enhancer else "")
        tasks = Counter((score.suite, score.split) for score in row.scores)
        for score in row.scores:
            suite = score.suite if score.split in ("", "seen") else f"{score.suite}_{score.split}"
            headline = row is furthest(results)
            metrics |= {f"eval/{suite}/{score.task}": score.value} if headline else {}
            if headline and score.task in TOTALS:
                metrics |= {f"eval/{suite}/{score.task}_low": score.low, f"eval/{suite}/{score.task}_high": score.high}
            every = score.task in TOTALS or score.suite in (DISTRIBUTION, DISTANCE) or tasks[score.suite, score.split] == 1
            metrics |= {f"eval/{suite}_{name}/{score.task}": score.value} if every else {}
    metrics |= enhancer_metrics(results.models)
    assert results.judge.ceiling_through_vae is not None, "the scene judge is tried through the autoencoder"
    metrics |= {"eval/judge/ceiling": results.judge.ceiling, "eval/judge/ceiling_through_vae": results.judge.ceiling_through_vae}
    return metrics | {"eval/judge/worst_floor": max(results.judge.floors.values())}


def furthest(results: Results) -> ModelResult:
    """The row of the last stage without enhancer: the one that would be promoted."""
    plain = [row for row in results.models if not row.enhancer] or results.models
    return max(plain, key=lambda row: IMAGE_MODELS.index(row.lineage) if row.lineage in IMAGE_MODELS else -1)
