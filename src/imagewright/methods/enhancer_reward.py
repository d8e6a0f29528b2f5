"""What an expansion is worth to the policy step: text kept, attributes kept, length, and the pictures a frozen generator makes of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from imagewright.config.enhancer import PolicyConfig
from imagewright.curation.prompt_constraints import broken_constraints
from imagewright.evaluation.aes_quality import Scorer
from imagewright.evaluation.generation import Generator, SamplerSettings, paint
from imagewright.evaluation.scene_grade import grade
from imagewright.evaluation.suites import SuitePrompt

TEXT_CONSTRAINTS = frozenset({"lost_visible_text", "added_text"})
MAX_AES = 100.0
# An expansion with this many broken constraints is as bad as one can be.
WORST_BREAKS = 3

Judge = Callable[[Sequence[SuitePrompt], Sequence[str]], list[dict[str, float]]]
"""Prompts and their expansions -> parts of the reward in 0..1, one dict per pair."""


@dataclass(frozen=True)
class Reward:
    """Total in 0..1 and its parts."""

    total: float
    parts: dict[str, float]


def text_parts(prompt: str, text: str, config: PolicyConfig) -> dict[str, float]:
    """`text`: quoted text kept, 0 or 1. `attributes`: 1 less a third for every other break. `length`: full at the wanted one."""
    broken = broken_constraints(prompt, text)
    others = sum(name not in TEXT_CONSTRAINTS for name in broken)
    words = len(text.split())
    return {
        "text": float(not TEXT_CONSTRAINTS & set(broken)),
        "attributes": max(0.0, 1.0 - others / WORST_BREAKS),
        "length": max(0.0, 1.0 - abs(words - config.wanted_words) / config.wanted_words),
    }


def rewards_of(prompts: Sequence[SuitePrompt], texts: Sequence[str], config: PolicyConfig, judge: Judge | None) -> list[Reward]:
    """Weighted mean of the parts that are measured; without a judge those are the text's own."""
    parts = [text_parts(prompt.text, text, config) for prompt, text in zip(prompts, texts, strict=True)]
    if judge is not None:
        parts = [mine | judged for mine, judged in zip(parts, judge(prompts, texts), strict=True)]
    weights = config.weights.model_dump()
    return [
        Reward(sum(weights[name] * value for name, value in found.items()) / sum(weights[name] for name in found), found) for found in parts
    ]


def picture_judge(generator: Generator, settings: SamplerSettings, scorer: Scorer | None, seed: int) -> Judge:
    """Paints every expansion with a frozen generator; `judged` is the share of the prompt's facts in the picture, `aes` its score.

    A prompt keeps its seed, so that its expansions differ by their words alone.
    """

    def judge(prompts: Sequence[SuitePrompt], texts: Sequence[str]) -> list[dict[str, float]]:
        found: list[dict[str, float]] = []
        for start in range(0, len(texts), generator.batch_size):
            chunk = prompts[start : start + generator.batch_size]
            seeds = [int.from_bytes(hashlib.sha256(f"{seed}/{prompt.prompt_id}".encode()).digest()[:4]) for prompt in chunk]
            images = paint(generator, list(texts[start : start + generator.batch_size]), seeds, settings)
            beauty = scorer.score(images) / MAX_AES if scorer is not None else None
            for number, (prompt, image) in enumerate(zip(chunk, images, strict=True)):
                parts = {"judged": grade(image, prompt.said).share}
                found.append(parts if beauty is None else parts | {"aes": float(beauty[number])})
        return found

    return judge
