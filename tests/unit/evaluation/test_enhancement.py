"""Prompts of the rows with enhancer: expanded where that keeps what was asked, as they were where it does not."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from imagewright.config.evaluation import EvaluationConfig
from imagewright.config.text_encoder import TextEncoderConfig
from imagewright.evaluation.enhancement import Enhancement, expand
from imagewright.models.text_encoder import TextEncoder, load_text_encoder


class Scripted:
    """A generator with one ending for every prompt; remembers how it was asked."""

    def __init__(self, ending: str) -> None:
        self.ending = ending
        self.batches: list[int] = []

    def generate(self, contents: Sequence[str], max_new_tokens: int, seconds: float) -> list[str]:
        """Repeats the prompt of each message."""
        self.batches.append(len(contents))
        return [f"{json.loads(content)['prompt']}{self.ending}" for content in contents]


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return load_text_encoder(TextEncoderConfig())


PROMPTS = ("a red circle", "two stars", "a red circle")
CONFIG = EvaluationConfig(enhancer_batch_size=1)


def test_every_different_prompt_is_expanded_once(encoder: TextEncoder) -> None:
    generator = Scripted(" on a white background")
    texts, num_passed = expand(generator, PROMPTS, encoder, CONFIG)
    assert texts == {"a red circle": "a red circle on a white background", "two stars": "two stars on a white background"}
    assert generator.batches == [1, 1]
    enhancement = Enhancement("id", texts, num_passed)
    assert enhancement.fallback_share == 0.0
    rates = enhancement.rates()
    assert (rates["pass_rate"], rates["pass_rate_high"], rates["num_prompts"]) == (1.0, 1.0, 2.0)
    assert rates["pass_rate_low"] == pytest.approx(0.3424, abs=1e-3)


@pytest.mark.parametrize("ending", [" and a blue square", " beside nine circles", " very" * 60])
def test_what_changes_the_prompt_or_is_too_long_falls_back(ending: str, encoder: TextEncoder) -> None:
    texts, num_passed = expand(Scripted(ending), PROMPTS, encoder, CONFIG)
    assert texts == {"a red circle": "a red circle", "two stars": "two stars"}
    assert num_passed == 0
    assert Enhancement("id", texts, num_passed).fallback_share == 1.0
