"""Expands an evaluation's prompts with an enhancer payload as the server would; what breaks a constraint stays as it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imagewright.config.evaluation import EvaluationConfig
from imagewright.curation.prompt_constraints import broken_constraints
from imagewright.models.language_model import load_saved, user_message
from imagewright.models.text_encoder import TextEncoder
from imagewright.models.text_generation import LocalGenerator, TextGenerator

MAX_SECONDS = 600.0
"""Longest time of one batch; what is unfinished then falls back."""


@dataclass(frozen=True)
class EnhancerInput:
    """The enhancer of an evaluation: its payload folder (`pe/`, `pe_tokenizer/`) and digest."""

    payload: Path
    digest: str


@dataclass(frozen=True)
class Enhancement:
    """Expanded prompts. identity goes into the cache key of every image."""

    identity: str
    texts: dict[str, str]
    """Prompt -> what is painted; the prompt itself where the expansion was refused."""

    def __call__(self, prompt: str) -> str:
        """What is painted for a prompt."""
        return self.texts[prompt]

    @property
    def fallback_share(self) -> float:
        """Share of prompts that stay as they were."""
        return sum(prompt == text for prompt, text in self.texts.items()) / max(1, len(self.texts))


def enhance_prompts(source: EnhancerInput, prompts: Sequence[str], encoder: TextEncoder, config: EvaluationConfig) -> Enhancement:
    """Loads the enhancer and expands every different prompt once, greedily. Raises LanguageModelError for a payload that is none."""
    texts = expand(LocalGenerator.of(load_saved(source.payload)), prompts, encoder, config)
    identity = "/".join([source.digest, str(config.enhancer_max_tokens), str(config.resolution_px), str(encoder.max_tokens)])
    return Enhancement(identity, texts)


def expand(generator: TextGenerator, prompts: Sequence[str], encoder: TextEncoder, config: EvaluationConfig) -> dict[str, str]:
    """Prompt -> expansion that breaks no constraint and fits the text encoder, else the prompt; short ones first, so batches pad little."""
    side = config.resolution_px
    order = sorted(dict.fromkeys(prompts), key=len)
    found: dict[str, str] = {}
    for start in range(0, len(order), config.enhancer_batch_size):
        batch = order[start : start + config.enhancer_batch_size]
        answers = generator.generate([user_message(prompt, side, side) for prompt in batch], config.enhancer_max_tokens, MAX_SECONDS)
        for prompt, text in zip(batch, answers, strict=True):
            fits = bool(text) and not broken_constraints(prompt, text) and encoder.encode([text])[0].shape[0] < encoder.max_tokens
            found[prompt] = text if fits else prompt
    return found
