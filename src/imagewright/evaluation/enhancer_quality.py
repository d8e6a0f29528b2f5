"""How well a language model expands prompts: constraint pass rate of first answers, fallbacks, what breaks, length and diversity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from imagewright.models.prompt_expansion import Expansion, expand_prompts
from imagewright.models.text_generation import TextGenerator

Z95 = 1.959964


@dataclass(frozen=True)
class EnhancerQuality:
    """Results over prompts."""

    prompts: tuple[str, ...]
    expansions: tuple[Expansion, ...]

    @property
    def outputs(self) -> tuple[str, ...]:
        """First answers."""
        return tuple(expansion.first for expansion in self.expansions)

    @property
    def broken(self) -> tuple[tuple[str, ...], ...]:
        """Constraints each first answer breaks."""
        return tuple(expansion.first_broken for expansion in self.expansions)

    @property
    def num_passed(self) -> int:
        """Prompts whose first answer breaks no constraint."""
        return sum(not names for names in self.broken)

    @property
    def num_fallbacks(self) -> int:
        """Prompts that stand as they were: neither attempt kept everything."""
        return sum(not expansion.text for expansion in self.expansions)

    @property
    def pass_rate(self) -> float:
        """Share of first answers that pass, before any second attempt or fallback."""
        return self.num_passed / len(self.prompts)

    @property
    def fallback_rate(self) -> float:
        """Share of prompts that stand as they were."""
        return self.num_fallbacks / len(self.prompts)

    @property
    def mean_words(self) -> float:
        """Words of an expansion."""
        return sum(len(text.split()) for text in self.outputs) / len(self.outputs)

    @property
    def gain_words(self) -> float:
        """Words an accepted expansion adds to its prompt, on average; 0 when none is accepted."""
        pairs = zip(self.prompts, self.expansions, strict=True)
        added = [len(found.text.split()) - len(prompt.split()) for prompt, found in pairs if found.text]
        return sum(added) / len(added) if added else 0.0

    @property
    def diversity(self) -> float:
        """Distinct word pairs over all word pairs of the expansions (distinct-2, 1510.03055)."""
        pairs = [pair for text in self.outputs for pair in zip(text.split(), text.split()[1:], strict=False)]
        return len(set(pairs)) / len(pairs) if pairs else 0.0

    def reasons(self) -> Mapping[str, int]:
        """How often each constraint broke in first answers."""
        return Counter(name for names in self.broken for name in names)

    def metrics(self, name: str) -> dict[str, float]:
        """Tracked metrics of one model."""
        low, high = wilson(self.num_passed, len(self.prompts))
        fallback_low, fallback_high = wilson(self.num_fallbacks, len(self.prompts))
        return {
            f"enhancer/{name}_pass_rate": self.pass_rate,
            f"enhancer/{name}_pass_rate_low": low,
            f"enhancer/{name}_pass_rate_high": high,
            f"enhancer/{name}_fallback_rate": self.fallback_rate,
            f"enhancer/{name}_fallback_rate_low": fallback_low,
            f"enhancer/{name}_fallback_rate_high": fallback_high,
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
    generator: TextGenerator,
    prompts: Sequence[str],
    size_px: tuple[int, int],
    max_new_tokens: int,
    batch_size: int,
    fits: Callable[[str], bool] = lambda _: True,
) -> EnhancerQuality:
    """Expands every prompt as the server would, shortest first so that batches pad little; results keep the given order."""
    assert prompts, "measuring needs a prompt"
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    found: dict[int, Expansion] = {}
    for start in range(0, len(order), batch_size):
        chunk = order[start : start + batch_size]
        answers = expand_prompts(generator, [prompts[index] for index in chunk], size_px, max_new_tokens, float("inf"), fits)
        found |= dict(zip(chunk, answers, strict=True))
    return EnhancerQuality(tuple(prompts), tuple(found[index] for index in range(len(prompts))))
