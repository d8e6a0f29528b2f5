"""May OCR rank samples of prompts that quote text? It must read the very texts, typeset, behind the model's autoencoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imagewright.config.preferences import PreferencesConfig
from imagewright.data.preferences import PreferenceError
from imagewright.errors import Problem
from imagewright.evaluation.calibration import MIN_TRUE_POSITIVE
from imagewright.evaluation.judges.text import TextReader
from imagewright.evaluation.judges.text_trial import reader_card
from imagewright.evaluation.judges.verdicts import Prompt
from imagewright.evaluation.results import JudgeCard
from imagewright.evaluation.vae_quality import as_images, as_tensor
from imagewright.methods.preference_prompts import TEXT, CheckedPrompt
from imagewright.models.vae import Autoencoder
from imagewright.models.vae_training import reconstruct

MAX_TRIAL_TEXTS = 40
"""Texts of one trial: OCR takes a good part of a second for each."""
FIX = "raise preferences.resolution_px, or set preferences.text_prompts to 0"


def require_readable(prompts: Sequence[CheckedPrompt], vae: Autoencoder, config: PreferencesConfig, seed: int) -> JudgeCard:
    """The card of OCR on the texts that the prompts quote, at the samples' size.

    Raises PreferenceError, with the measured ceiling, unless at least 0.95 of them are read through the autoencoder and the reader is
    otherwise to be trusted; and when there are not two texts to try it on.
    """
    texts = list(dict.fromkeys(prompt.quoted for prompt in prompts))[:MAX_TRIAL_TEXTS]
    if len(texts) < 2:
        rule = "needs training rows with English captions that quote at least two different visible texts"
        raise PreferenceError(Problem("preferences.text_prompts", rule, len(texts), "curate typeset posters, or set it to 0"))

    def through_vae(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return as_images(reconstruct(vae, as_tensor(images), config.batch_size))

    asked = [Prompt(f"{TEXT}-{place}", TEXT, text, text) for place, text in enumerate(texts)]
    card = reader_card(TextReader(), asked, config.resolution_px, through_vae, np.random.default_rng([seed, *TEXT.encode()]), seed)
    ceiling = card.ceiling_through_vae or 0.0
    if ceiling < MIN_TRUE_POSITIVE:
        rule = f"needs OCR to read {MIN_TRUE_POSITIVE} of typeset texts of {config.resolution_px} px behind the autoencoder"
        raise PreferenceError(Problem("preferences.text_prompts", rule, round(ceiling, 4), FIX))
    if card.refused:
        raise PreferenceError(Problem("preferences.text_prompts", f"needs an OCR to be trusted: it {card.refused}", None, FIX))
    return card
