"""Builds preference pairs from a model's own samples: the same prompt from several seeds, ranked by votes or by what can be checked."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imagewright.config.preferences import PreferencesConfig
from imagewright.data.latents import LatentsContract, LatentsWriter
from imagewright.data.preferences import Audit, audit_pairs, write_audit, write_pairs
from imagewright.diffusion.sampler import sample
from imagewright.evaluation.generation import Generator, SamplerSettings
from imagewright.evaluation.grid import write_grid
from imagewright.evaluation.results import JudgeCard
from imagewright.methods.preference_prompts import CheckedPrompt, scene_prompts, text_prompts
from imagewright.methods.preference_ranking import Candidate, PairBuilder
from imagewright.methods.preference_text import require_readable
from imagewright.methods.preference_votes import VOTES_FOLDER, BallotWriter, Votes, read_votes, sampling_of
from imagewright.models.vae import decode, digest, packed_channels, stride
from imagewright.models.vae_training import to_pixels

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
class Prompts:
    """What is sampled, in order; every prompt there is, which votes may be about; and the trial of OCR where text is asked for."""

    chosen: list[CheckedPrompt]
    every: list[CheckedPrompt]
    reader: JudgeCard | None = None


@dataclass(frozen=True)
class Built:
    """A built set: its audit, the prompts without a pair by reason, and the votes by what became of them."""

    audit: Audit
    dropped: Counter[str]
    votes: Counter[str] = field(default_factory=Counter)

    def counts(self) -> dict[str, int]:
        """Counts of the record."""
        sources = {f"pairs_{source}": count for source, count in self.audit.sources.items()}
        dropped = {f"dropped_{reason}": count for reason, count in self.dropped.items()}
        return {"pairs": self.audit.usable, **sources, **dropped, **{f"votes_{fate}": count for fate, count in self.votes.items()}}

    def metrics(self) -> dict[str, float]:
        """Metrics of the set, named as the run logs them."""
        content = {name: value for name, value in asdict(self.audit).items() if isinstance(value, int | float)}
        return {f"preferences/{name}": float(value) for name, value in {**self.counts(), **content}.items()}


def sample_preferences(
    config: PreferencesConfig,
    generator: Generator,
    curated: Path,
    output: Path,
    seed: int,
    *,
    sampled_from: str,
    scorer: Scorer | None = None,
    votes: Path | None = None,
) -> Built:
    """Writes samples, `pairs.parquet`, `audit.json`, `pairs.png` and `votes/` into `output`.

    sampled_from: payload digest of the model. votes: export of a project that an earlier build wrote. Raises PreferenceError when `curated`
    holds no training scene, for text that OCR cannot read, for votes none of which is about these samples, and for an unusable set.
    """
    prompts = choose(config, generator, curated, seed)
    settings = SamplerSettings(config.num_steps, config.guidance_scale, config.shift, config.resolution_px)
    sampling = sampling_of(sampled_from, generator.identity, settings)
    voted = read_votes(votes, sampling, [prompt.text for prompt in prompts.every]) if votes is not None else Votes()
    wanted = {prompt.text: prompt for prompt in [*prompts.chosen, *(one for one in prompts.every if voted.on(one.text))]}
    requests = [(prompt, voted.seeds(prompt.text) or own_seeds(config, prompt, seed)) for prompt in wanted.values()]
    empty = generator.text_encoder.encode([""])[0]
    ballot = BallotWriter(output / VOTES_FOLDER, sampling)
    with LatentsWriter(output, contract_of(generator), empty) as writer:
        builder = PairBuilder(config, sampling, voted, writer, ballot)
        for found in sampled(config, generator, requests, empty, scorer):
            builder.add(*found)
    ballot.close()
    write_pairs(output, builder.pairs)
    audit = audit_pairs(output, config.near_duplicate_distance)
    rankers = {RANKED_BY: True, "text": prompts.reader is not None, AESTHETIC: scorer is not None, VOTES_FOLDER: votes is not None}
    about: dict[str, Any] = {
        "prompts": len(requests),
        "dropped_prompts": dict(sorted(builder.dropped.items())),
        "sampled_from": sampled_from,
        "ranked_by": [name for name, used in rankers.items() if used],
        "sampler": config.model_dump(mode="json"),
        "votes": dict(sorted(voted.counts.items())),
        "text_reader": prompts.reader.model_dump(mode="json") if prompts.reader else None,
    }
    write_audit(output, audit, about)
    if builder.shown:
        write_grid([[pair[0] for pair in builder.shown], [pair[1] for pair in builder.shown]], output / GRID_NAME)
    return Built(audit, builder.dropped, voted.counts)


def choose(config: PreferencesConfig, generator: Generator, curated: Path, seed: int) -> Prompts:
    """Prompts of scenes and, where asked for, as many that quote text in between, so that a vote on the first ones sees both."""
    scenes = scene_prompts(curated, seed)
    if not config.text_prompts:
        return Prompts(scenes[: config.num_prompts], scenes)
    texts = text_prompts(curated, seed)
    reader = require_readable(texts[: config.text_prompts], generator.vae, config, seed)
    turns = chain.from_iterable(zip_longest(scenes[: config.num_prompts], texts[: config.text_prompts]))
    return Prompts([prompt for prompt in turns if prompt is not None], [*scenes, *texts], reader)


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


def sampled(
    config: PreferencesConfig,
    generator: Generator,
    requests: Sequence[tuple[CheckedPrompt, Sequence[int]]],
    empty: Tensor,
    scorer: Scorer | None,
) -> Iterator[tuple[CheckedPrompt, Tensor, list[Candidate]]]:
    """Every prompt with its embedding [T, D] and its scored samples, one per seed, several prompts in one pack."""
    cells = config.resolution_px // stride(generator.vae)
    for chunk in packs(requests, config.batch_size):
        embeds = generator.text_encoder.encode([prompt.text for prompt, _ in chunk])
        seeds = [seed for _, mine in chunk for seed in mine]
        latents = sample(
            generator.model,
            [text for text, (_, mine) in zip(embeds, chunk, strict=True) for _ in mine],
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
        places = iter(range(len(seeds)))
        for (prompt, mine), text in zip(chunk, embeds, strict=True):
            candidates = [
                candidate(config, prompt, latents[at], images[at], None if beauty is None else float(beauty[at]), seeds[at])
                for at in islice(places, len(mine))
            ]
            yield prompt, text, candidates


def packs(requests: Sequence[tuple[CheckedPrompt, Sequence[int]]], limit: int) -> Iterator[Sequence[tuple[CheckedPrompt, Sequence[int]]]]:
    """Consecutive requests of at most `limit` samples together; a single one may have more."""
    start = samples = 0
    for place, (_, seeds) in enumerate(requests):
        if place > start and samples + len(seeds) > limit:
            yield requests[start:place]
            start, samples = place, 0
        samples += len(seeds)
    if requests:
        yield requests[start:]


def candidate(
    config: PreferencesConfig, prompt: CheckedPrompt, latents: Tensor, image: Pixels, beauty: float | None, seed: int
) -> Candidate:
    """A sample with its total: the share of the prompt that is true, plus the weighted aesthetic score."""
    graded = prompt.check(image)
    scores: Mapping[str, float] = {} if beauty is None else {AESTHETIC: beauty}
    total = graded.share + (config.aes_weight * beauty if beauty is not None else 0.0)
    return Candidate(latents, image, {**graded.dimensions, **scores}, total, seed)


def own_seeds(config: PreferencesConfig, prompt: CheckedPrompt, seed: int) -> list[int]:
    """The noise of the samples of a prompt nobody has voted on."""
    names = [f"preferences/{seed}/{prompt.prompt_id}/{copy}" for copy in range(config.samples_per_prompt)]
    return [int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big") for name in names]
