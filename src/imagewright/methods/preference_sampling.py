"""Builds preference pairs from a model's own samples: the same prompt from several seeds, ranked by what can be checked."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imagewright.config.preferences import PreferencesConfig
from imagewright.data.latents import EncodedCaption, LatentsContract, LatentsWriter
from imagewright.data.pixels import kept_rows
from imagewright.data.preferences import Audit, Pair, PreferenceError, audit_pairs, write_audit, write_pairs
from imagewright.diffusion.sampler import sample
from imagewright.errors import Problem
from imagewright.evaluation.formulas import GENEVAL_TASKS
from imagewright.evaluation.generation import Generator
from imagewright.evaluation.grid import write_grid
from imagewright.evaluation.scene_grade import Grade, grade
from imagewright.evaluation.suites import SuitePrompt, normal, shuffled, suite_prompt
from imagewright.models.vae import decode, digest, packed_channels, stride
from imagewright.models.vae_training import to_pixels

PROMPT_SPLIT = "train"
CAPTION_FORM = "short"
GRID_NAME = "pairs.png"
AESTHETIC = "aesthetic"
MAX_AES_SCORE = 100.0
RANKED_BY = "scene grade"

Pixels = NDArray[np.uint8]


class Scorer(Protocol):
    """The aesthetic model."""

    def score(self, images: Pixels) -> NDArray[np.float64]:
        """RGB uint8 [n, H, W, 3] -> [n] in 0..100."""


@dataclass(frozen=True)
class Candidate:
    """One sample of a prompt: latents [C, h, w], image [H, W, 3], scores by dimension, and their total."""

    latents: Tensor
    image: Pixels
    scores: dict[str, float]
    total: float
    seed: int


@dataclass
class Ranking:
    """Pairs found so far, the prompts that gave none by reason, and the pairs shown to people."""

    pairs: list[Pair] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    shown: list[tuple[Pixels, Pixels]] = field(default_factory=list)


def sample_preferences(
    config: PreferencesConfig,
    generator: Generator,
    curated: Path,
    output: Path,
    seed: int,
    *,
    sampled_from: str,
    scorer: Scorer | None = None,
) -> tuple[Audit, Counter[str]]:
    """Writes samples, `pairs.parquet`, `audit.json` and `pairs.png` into `output`; returns the audit and the dropped prompts by reason.

    sampled_from: payload digest of the model. Raises PreferenceError when `curated` holds no training scene, or for an unusable set.
    """
    prompts = choose_prompts(curated, config.num_prompts, seed)
    empty = generator.text_encoder.encode([""])[0]
    ranking = Ranking()
    with LatentsWriter(output, contract_of(generator), empty) as writer:
        for prompt, embeds, candidates in sampled(config, generator, prompts, empty, seed, scorer):
            rank(config, prompt, embeds, candidates, ranking, writer)
    write_pairs(output, ranking.pairs)
    audit = audit_pairs(output, config.near_duplicate_distance)
    about = {
        "prompts": len(prompts),
        "dropped_prompts": dict(sorted(ranking.dropped.items())),
        "sampled_from": sampled_from,
        "ranked_by": [RANKED_BY, *([AESTHETIC] if scorer else [])],
        "sampler": config.model_dump(mode="json"),
    }
    write_audit(output, audit, about)
    if ranking.shown:
        write_grid([[pair[0] for pair in ranking.shown], [pair[1] for pair in ranking.shown]], output / GRID_NAME)
    return audit, ranking.dropped


def contract_of(generator: Generator) -> LatentsContract:
    """What the written numbers mean."""
    text = generator.text_encoder
    return LatentsContract(
        vae_digest=digest(generator.vae),
        stride=stride(generator.vae),
        channels=packed_channels(generator.vae),
        text_encoder_class=text.class_name,
        text_encoder_digest=text.digest,
        text_layer=text.layer,
        text_dim=text.dim,
        max_tokens=text.max_tokens,
    )


def choose_prompts(curated: Path, count: int, seed: int) -> list[SuitePrompt]:
    """Up to `count` different prompts of training scenes, the tasks in turn so that each has its share.

    Raises PreferenceError when there is no scene.
    """
    by_task: dict[str, dict[str, SuitePrompt]] = {task: {} for task in GENEVAL_TASKS}
    for row in shuffled([row for row in kept_rows(curated, (PROMPT_SPLIT,)) if row.scene], seed):
        prompt = suite_prompt(row, PROMPT_SPLIT)
        if prompt is not None:
            by_task[prompt.task].setdefault(normal(prompt.text), prompt)
    queues = [list(found.values()) for found in by_task.values()]
    turns = [queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue)]
    if not turns:
        fix = "curate composed scenes, or collect human votes"
        raise PreferenceError(Problem("curated", f"must hold kept scenes with English captions in {PROMPT_SPLIT}", 0, fix))
    return turns[:count]


def sampled(
    config: PreferencesConfig, generator: Generator, prompts: Sequence[SuitePrompt], empty: Tensor, seed: int, scorer: Scorer | None
) -> Iterator[tuple[SuitePrompt, Tensor, list[Candidate]]]:
    """Every prompt with its embedding [T, D] and its scored samples, several prompts in one pack."""
    copies = config.samples_per_prompt
    per_pack = max(1, config.batch_size // copies)
    cells = config.resolution_px // stride(generator.vae)
    for start in range(0, len(prompts), per_pack):
        chunk = prompts[start : start + per_pack]
        embeds = generator.text_encoder.encode([prompt.text for prompt in chunk])
        seeds = [sample_seed(seed, prompt.prompt_id, copy) for prompt in chunk for copy in range(copies)]
        latents = sample(
            generator.model,
            [text for text in embeds for _ in range(copies)],
            [(cells, cells)] * len(seeds),
            channels=packed_channels(generator.vae),
            seeds=seeds,
            num_steps=config.num_steps,
            shift=config.shift,
            guidance_scale=config.guidance_scale,
            negative_embeds=empty,
        )
        images = np.ascontiguousarray(to_pixels(decode(generator.vae, torch.stack(latents))).numpy().transpose(0, 2, 3, 1))
        beauty = scorer.score(images) / MAX_AES_SCORE if scorer is not None else None
        for number, (prompt, text) in enumerate(zip(chunk, embeds, strict=True)):
            mine = range(number * copies, (number + 1) * copies)
            candidates = [
                candidate(
                    config,
                    latents[at],
                    images[at],
                    grade(images[at], prompt.said),
                    None if beauty is None else float(beauty[at]),
                    seeds[at],
                )
                for at in mine
            ]
            yield prompt, text, candidates


def candidate(config: PreferencesConfig, latents: Tensor, image: Pixels, graded: Grade, beauty: float | None, seed: int) -> Candidate:
    """A sample with its total: the share of the prompt that is true, plus the weighted aesthetic score."""
    scores = dict(graded.dimensions) | ({} if beauty is None else {AESTHETIC: beauty})
    total = graded.share + (config.aes_weight * beauty if beauty is not None else 0.0)
    return Candidate(latents, image, scores, total, seed)


def sample_seed(seed: int, prompt_id: str, copy: int) -> int:
    """The noise of one sample."""
    return int.from_bytes(hashlib.sha256(f"preferences/{seed}/{prompt_id}/{copy}".encode()).digest()[:7], "big")


def rank(
    config: PreferencesConfig, prompt: SuitePrompt, embeds: Tensor, candidates: Sequence[Candidate], ranking: Ranking, writer: LatentsWriter
) -> None:
    """Best against worst of one prompt; ties, hopeless prompts and non-finite samples give no pair and are counted."""
    finite = [found for found in candidates if bool(torch.isfinite(found.latents).all())]
    if len(finite) < 2:
        ranking.dropped["not_finite"] += 1
        return
    best, worst = max(finite, key=lambda found: found.total), min(finite, key=lambda found: found.total)
    margin = best.total - worst.total
    if margin < config.min_margin or margin == 0:
        ranking.dropped["tie"] += 1
        return
    if best.total < config.min_chosen_score:
        ranking.dropped["best_too_poor"] += 1
        return
    keys = [f"{prompt.prompt_id}.{found.seed}" for found in (best, worst)]
    caption = EncodedCaption(CAPTION_FORM, embeds.to(torch.bfloat16))
    for key, found in zip(keys, (best, worst), strict=True):
        writer.add(key, found.latents, [caption], category=prompt.task)
    differences = {name: best.scores[name] - worst.scores[name] for name in best.scores if name in worst.scores}
    ranking.pairs.append(
        Pair(
            pair_id=prompt.prompt_id,
            prompt=prompt.text,
            chosen_key=keys[0],
            rejected_key=keys[1],
            source="model",
            margin=margin,
            chosen_score=best.total,
            rejected_score=worst.total,
            scores=json.dumps({name: [best.scores[name], worst.scores[name]] for name in differences}),
            dimension=max(differences, key=lambda name: differences[name]),
        )
    )
    if len(ranking.shown) < config.grid_pairs:
        ranking.shown.append((best.image, worst.image))


def audit_metrics(audit: Audit, dropped: Counter[str]) -> dict[str, float]:
    """Metrics of a built set, named as the run logs them."""
    content = {name: value for name, value in asdict(audit).items() if isinstance(value, int | float)}
    return {f"preferences/{name}": float(value) for name, value in content.items()} | {
        f"preferences/dropped_{reason}": float(count) for reason, count in dropped.items()
    }
