"""Paints prompts by one model: every model gets the same noise for the same prompt, and the sampler of its place in the lineage."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imagewright.config.evaluation import EvaluationConfig
from imagewright.evaluation.enhancement import Enhancement
from imagewright.evaluation.generation import GenerationCache, Generator, SamplerSettings, generate
from imagewright.models.text_encoder import TextEncoder
from imagewright.models.vae import Autoencoder


@dataclass(frozen=True)
class Easel:
    """What every model is painted with."""

    config: EvaluationConfig
    vae: Autoencoder
    text_encoder: TextEncoder
    cache: GenerationCache
    seed: int


def settings_of(config: EvaluationConfig, lineage: str) -> SamplerSettings:
    """Sampler of a lineage: turbo has few steps and its guidance inside."""
    steps, guidance = (config.turbo_steps, config.turbo_guidance_scale) if lineage == "turbo" else (config.num_steps, config.guidance_scale)
    return SamplerSettings(steps, guidance, config.shift, config.resolution_px)


def paint_prompts(
    easel: Easel, lineage: str, generator: Generator, prompts: Sequence[tuple[str, str]], enhancement: Enhancement | None = None
) -> tuple[NDArray[np.uint8], float]:
    """Images [P * images_per_prompt, H, W, 3] of (prompt id, text) in their order, and the seconds each new one cost."""
    copies, identity = easel.config.images_per_prompt, enhancement.identity if enhancement else ""
    requests = [(text, image_seed(easel.seed, key, copy)) for key, text in prompts for copy in range(copies)]
    settings = settings_of(easel.config, lineage)
    painted, seconds = generate(generator, requests, settings, easel.cache, enhance=enhancement, enhancer=identity)
    return np.stack(painted), seconds


def image_seed(seed: int, prompt_id: str, copy: int) -> int:
    """The noise of one image: the same for every model."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{prompt_id}/{copy}".encode()).digest()[:7], "big")
