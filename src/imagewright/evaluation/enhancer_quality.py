"""How well a language model expands prompts before any fallback: constraint pass rate, what breaks, length and diversity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from imagewright.curation.prompt_constraints import broken_constraints
from imagewright.models.language_model import user_message
from imagewright.models.text_generation import TextGenerator

Z95 = 1.959964


@dataclass(frozen=True)
class EnhancerQuality:
    """Results over prompts."""

    prompts: tuple[str, ...]
    outputs: tuple[str, ...]
    broken: tuple[tuple[str, ...], ...]

    @property
    def num_passed(self) -> int:
        """Prompts whose expansion breaks no constraint."""
        return sum(not names for names in self.broken)

    @property
    def pass_rate(self) -> float:
        """Share that passes before any fallback; the rest falls back."""
        return self.num_passed / len(self.prompts)

    @property
    def interval(self) -> tuple[float, float]:
        """95% Wilson interval of the pass rate."""
        return wilson(self.num_passed, len(self.prompts))

    @property
    def mean_words(self) -> float:
        """Words of an expansion."""
        return sum(len(text.split()) for text in self.outputs) / len(self.outputs)

    @property
    def gain_words(self) -> float:
        """Words an accepted expansion adds to its prompt, on average; 0 when none is accepted."""
        added = [
            len(text.split()) - len(prompt.split())
            for prompt, text, names in zip(self.prompts, self.outputs, self.broken, strict=True)
            if not names
        ]
        return sum(added) / len(added) if added else 0.0

    @property
    def diversity(self) -> float:
        """Distinct word pairs over all word pairs of the expansions (distinct-2, 1510.03055)."""
        pairs = [pair for text in self.outputs for pair in zip(text.split(), text.split()[1:], strict=False)]
        return len(set(pairs)) / len(pairs) if pairs else 0.0

    def reasons(self) -> Mapping[str, int]:
        """How often each constraint broke."""
        return Counter(name for names in self.broken for name in names)

    def metrics(self, name: str) -> dict[str, float]:
        """Tracked metrics of one model."""
        low, high = self.interval
        return {
            f"enhancer/{name}_pass_rate": self.pass_rate,
            f"enhancer/{name}_pass_rate_low": low,
            f"enhancer/{name}_pass_rate_high": high,
            f"enhancer/{name}_fallback_rate": 1.0 - self.pass_rate,
            f"enhancer/{name}_words": self.mean_words,
            f"enhancer/{name}_added_words": self.gain_words,
            f"enhancer/{name}_diversity": self.diversity,
        }


def wilson(passed: int, total: int) -> tuple[float, float]:
    """95% score interval of a proportion (Wilson 1927)."""
    assert 0 <= passed <= total
    assert total > 0
    share, spread = passed / total, Z95**2 / total
    centre = (share + spread / 2) / (1 + spread)
    half = Z95 * ((share * (1 - share) + spread / 4) / total) ** 0.5 / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def measure(
    generator: TextGenerator, prompts: Sequence[str], size_px: tuple[int, int], max_new_tokens: int, batch_size: int
) -> EnhancerQuality:
    """Expands every prompt once, shortest first so that batches pad little; results keep the given order."""
    assert prompts, "measuring needs a prompt"
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    outputs = [""] * len(prompts)
    for start in range(0, len(order), batch_size):
        chunk = order[start : start + batch_size]
        contents = [user_message(prompts[index], *size_px) for index in chunk]
        for index, text in zip(chunk, generator.generate(contents, max_new_tokens, float("inf")), strict=True):
            outputs[index] = text
    broken = tuple(broken_constraints(prompt, text) for prompt, text in zip(prompts, outputs, strict=True))
    return EnhancerQuality(tuple(prompts), tuple(outputs), broken)
