"""Tries the OCR on typeset texts of the size that models paint: one that cannot read them cannot judge them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from imagewright.evaluation.judges.text import NAME, TextReader, change_unit, reader_digest, typeset
from imagewright.evaluation.judges.trust import Trial, renamed, try_judge
from imagewright.evaluation.judges.verdicts import Pixels, Prompt
from imagewright.evaluation.results import JudgeCard

LATIN_WORDS = ("yellow", "river", "window", "paper", "summer", "twelve")
CHINESE_WORDS = tuple("山水火木金土月星云雨")


def reader_card(
    reader: TextReader,
    prompts: Sequence[Prompt],
    side_px: int,
    through_vae: Callable[[Pixels], Pixels],
    rng: np.random.Generator,
    seed: int,
) -> JudgeCard:
    """The card of the reader on its prompts' truths, typeset at side_px. through_vae: images [N, H, W, 3] after encode-decode."""
    texts = [str(prompt.truth) for prompt in prompts]
    images = np.stack([typeset(text, side_px) for text in texts])
    changed = renamed(prompts, [change_unit(text, other_words(text), rng) for text in texts])
    trial = Trial(list(zip(images, prompts, strict=True)), changed)
    return try_judge(NAME, reader_digest(), reader, trial, seed, list(through_vae(images)))


def other_words(text: str) -> tuple[str, ...]:
    """Words, or characters, that may take a place in a text."""
    return LATIN_WORDS if re.search(r"[a-z]", text.casefold()) else CHINESE_WORDS
