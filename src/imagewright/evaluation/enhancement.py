"""Expands an evaluation's prompts with an enhancer payload as the server would; what breaks a constraint stays as it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imagewright.config.evaluation import EvaluationConfig
from imagewright.evaluation.enhancer_quality import wilson
from imagewright.models.language_model import load_saved
from imagewright.models.prompt_expansion import expand_prompts
from imagewright.models.text_encoder import TextEncoder
from imagewright.models.text_generation import LocalGenerator, TextGenerator

MAX_SECONDS = 600.0
"""Longest time of one batch; what is unfinished then falls back."""
EXPANSION_VERSION = "2"
"""Raised when the same model would expand differently, so that no image of another text is taken from the cache."""


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
    num_passed: int
    """Prompts whose first answer kept every constraint."""

    def __call__(self, prompt: str) -> str:
        """What is painted for a prompt."""
        return self.texts[prompt]

    @property
    def fallback_share(self) -> float:
        """Share of prompts that stay as they were."""
        return self.num_fallbacks / max(1, len(self.texts))

    @property
    def num_fallbacks(self) -> int:
        """Prompts that stay as they were."""
        return sum(prompt == text for prompt, text in self.texts.items())

    def rates(self) -> dict[str, float]:
        """Pass rate of first answers and fallback rate with 95% intervals, and over how many prompts."""
        if not self.texts:
            return {}
        found = {"num_prompts": float(len(self.texts))}
        for name, count in (("pass_rate", self.num_passed), ("fallback_rate", self.num_fallbacks)):
            low, high = wilson(count, len(self.texts))
            found |= {name: count / len(self.texts), f"{name}_low": low, f"{name}_high": high}
        return found


def enhance_prompts(source: EnhancerInput, prompts: Sequence[str], encoder: TextEncoder, config: EvaluationConfig) -> Enhancement:
    """Loads the enhancer and expands every different prompt once, greedily. Raises LanguageModelError for a payload that is none."""
    texts, num_passed = expand(LocalGenerator.of(load_saved(source.payload)), prompts, encoder, config)
    bounds = (config.enhancer_max_tokens, config.resolution_px, encoder.max_tokens)
    identity = "/".join([source.digest, EXPANSION_VERSION, *map(str, bounds)])
    return Enhancement(identity, texts, num_passed)


def expand(generator: TextGenerator, prompts: Sequence[str], encoder: TextEncoder, config: EvaluationConfig) -> tuple[dict[str, str], int]:
    """(prompt -> expansion that breaks no constraint and fits the text encoder, else the prompt; how many first answers did).

    Short prompts come first, so that batches pad little.
    """
    side = config.resolution_px

    def fits(text: str) -> bool:
        return encoder.count_tokens(text) <= encoder.max_tokens

    order = sorted(dict.fromkeys(prompts), key=len)
    found: dict[str, str] = {}
    num_passed = 0
    for start in range(0, len(order), config.enhancer_batch_size):
        batch = order[start : start + config.enhancer_batch_size]
        answers = expand_prompts(generator, batch, (side, side), config.enhancer_max_tokens, MAX_SECONDS, fits)
        found |= {prompt: answer.text or prompt for prompt, answer in zip(batch, answers, strict=True)}
        num_passed += sum(not answer.first_broken for answer in answers)
    return found, num_passed
