"""Did preference training help? The aligned model against its parent on held-out prompts, by a judge that did not rank the pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imagewright.config.alignment import AlignmentConfig
from imagewright.data.pixels import load_pixels
from imagewright.evaluation.capability_drift import ArmModel, DriftPrompt, drift_prompts
from imagewright.evaluation.generation import GenerationCache, Pixels, SamplerSettings, generate, load_generator
from imagewright.evaluation.painting import image_seed
from imagewright.evaluation.scene_judge import judge, objects_of_scene, prompt_from_scene
from imagewright.evaluation.scene_network import SceneNetwork, train_network, truths
from imagewright.evaluation.statistics import Interval, bootstrap
from imagewright.models.text_encoder import TextEncoder
from imagewright.models.vae import Autoencoder

CHANCE = 0.5


@dataclass(frozen=True)
class AlignmentVerdict:
    """Win rate of the aligned model with its interval; `shown` only when the whole interval is above one half."""

    win_rate: Interval
    num_prompts: int
    judge_accuracy: float
    """Share of held-out scenes whose own prompt the judge found truer than another's."""
    ranking_judge_gain: Interval
    """Difference in accuracy by the judge that ranked the pairs: for information, it is not independent."""
    min_judge_accuracy: float

    @property
    def shown(self) -> bool:
        """True when the judge may be believed and the interval is above one half."""
        return self.judge_accuracy >= self.min_judge_accuracy and self.win_rate.low > CHANCE

    @property
    def reason(self) -> str:
        """The verdict in one line."""
        rate = f"win rate {self.win_rate.value:.3f} [{self.win_rate.low:.3f}, {self.win_rate.high:.3f}] on {self.num_prompts} prompts"
        if self.judge_accuracy < self.min_judge_accuracy:
            return f"not shown: the judge tells only {self.judge_accuracy:.3f} of held-out scenes apart ({rate})"
        return f"shown: {rate}" if self.shown else f"not shown: {rate}"

    def metrics(self) -> dict[str, float]:
        """`alignment/...`."""
        return {
            "alignment/win_rate": self.win_rate.value,
            "alignment/win_rate_low": self.win_rate.low,
            "alignment/win_rate_high": self.win_rate.high,
            "alignment/judge_accuracy": self.judge_accuracy,
            "alignment/min_judge_accuracy": self.min_judge_accuracy,
            "alignment/ranking_judge_gain": self.ranking_judge_gain.value,
            "alignment/shown": float(self.shown),
        }


def judge_alignment(
    config: AlignmentConfig,
    parent: ArmModel,
    aligned: ArmModel,
    curated: Path,
    *,
    vae: Autoencoder,
    text_encoder: TextEncoder,
    cache: GenerationCache,
    seed: int,
) -> AlignmentVerdict:
    """Trains and examines the judge, paints every prompt with both models from the same noise, and compares. Raises InputError."""
    network = learned_judge(config, curated, seed)
    accuracy = examine(network, config, curated, seed)
    prompts = drift_prompts(curated, (), config.num_prompts, seed)
    first, second = (paint(config, model, prompts, vae, text_encoder, cache, seed) for model in (parent, aligned))
    said = [prompt.said for prompt in prompts]
    before, after = truths(network, np.stack(first), said), truths(network, np.stack(second), said)
    gains = [
        float(judge(new, prompt.said)) - float(judge(old, prompt.said)) for new, old, prompt in zip(second, first, prompts, strict=True)
    ]
    return AlignmentVerdict(
        win_rate=bootstrap(wins(before, after), config.bootstrap_resamples),
        num_prompts=len(prompts),
        judge_accuracy=accuracy,
        ranking_judge_gain=bootstrap(gains, config.bootstrap_resamples),
        min_judge_accuracy=config.min_judge_accuracy,
    )


def wins(before: Sequence[float], after: Sequence[float]) -> list[float]:
    """1 where the aligned model's image is truer, 0 where its parent's is, one half for a tie."""
    return [CHANCE if old == new else float(new > old) for old, new in zip(before, after, strict=True)]


def learned_judge(config: AlignmentConfig, curated: Path, seed: int) -> SceneNetwork:
    """The judge, trained on scenes of the training split."""
    known = load_pixels(curated, side_px=config.resolution_px, splits=("train",), limit=config.judge_images, seed=seed, only_scenes=True)
    scenes = [(objects_of_scene(row.scene), prompt_from_scene(row.scene)) for row in known.rows]
    return train_network(known.images, scenes, config.judge_steps, seed)


def examine(network: SceneNetwork, config: AlignmentConfig, curated: Path, seed: int) -> float:
    """Share of held-out scenes whose own prompt is truer to the judge than the next scene's; prompts alike in both say nothing."""
    held = load_pixels(
        curated,
        side_px=config.resolution_px,
        splits=("validation", "holdout_compositional"),
        limit=config.judge_held_out,
        seed=seed,
        only_scenes=True,
    )
    own = [prompt_from_scene(row.scene) for row in held.rows]
    other = [*own[1:], own[0]]
    mine, theirs = truths(network, held.images, own), truths(network, held.images, other)
    told = [float(a > b) for a, b, first, second in zip(mine, theirs, own, other, strict=True) if first.objects != second.objects]
    return sum(told) / len(told) if told else 0.0


def paint(
    config: AlignmentConfig,
    model: ArmModel,
    prompts: Sequence[DriftPrompt],
    vae: Autoencoder,
    text_encoder: TextEncoder,
    cache: GenerationCache,
    seed: int,
) -> list[Pixels]:
    """One image [H, W, 3] per prompt, from noise that depends on the prompt alone."""
    generator = load_generator(model.payload, model.digest, vae, text_encoder, config.batch_size)
    settings = SamplerSettings(config.num_steps, config.guidance_scale, config.shift, config.resolution_px)
    requests = [(prompt.text, image_seed(seed, prompt.prompt_id, 0)) for prompt in prompts]
    return generate(generator, requests, settings, cache)[0]
