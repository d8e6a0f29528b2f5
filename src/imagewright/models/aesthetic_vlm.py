"""A vision-language model as an aesthetic scorer: the logits of 101 score tokens at the last position are the score bins.

The way of ERNIE-Image-Aes and ArtiMuse (arXiv 2507.14533): one 448 x 448 tile, one question, one answer token.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imagewright.errors import InputError, Problem
from imagewright.losses.score_distribution import NUM_BINS

QUESTION = "Rate the aesthetic quality of this image from 0 to 100."
FIRST_LETTERS = "acde"
"""Scores 0-25, 26-50, 51-75 and 76-100 begin with these letters."""


def score_words() -> list[str]:
    """The 101 two-letter codes in score order: aa..az (0-25), ca..cy (26-50), da..dy (51-75), ea..ey (76-100)."""
    words = [first + second for first in FIRST_LETTERS for second in string.ascii_lowercase[: 26 if first == "a" else 25]]
    assert len(words) == NUM_BINS
    return words


def score_token_ids(tokenizer: Any) -> list[int]:
    """Id of each score word. Raises InputError unless every one is a single token of its own."""
    encoded = [tokenizer.encode(word, add_special_tokens=False) for word in score_words()]
    split = [word for word, ids in zip(score_words(), encoded, strict=True) if len(ids) != 1 or ids[0] == tokenizer.unk_token_id]
    ids = [ids[0] for ids in encoded]
    if split or len(set(ids)) != NUM_BINS:
        fix = "add the words to the tokenizer and resize the embeddings"
        received = split[:5] or "the same token twice"
        raise InputError(Problem("aes.pretrained", "needs one token for each of the 101 score words", received, fix))
    return ids


class VisionLanguageScorer(nn.Module):
    """model: any image-text-to-text model of transformers; processor: its own."""

    def __init__(self, model: nn.Module, processor: Any, token_ids: Sequence[int]) -> None:
        super().__init__()
        assert len(token_ids) == NUM_BINS
        self.model = model
        self.processor = processor
        self.token_ids = list(token_ids)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] -> logits [B, 101] of the score tokens at the last position."""
        device = next(self.model.parameters()).device
        inputs = {name: value.to(device) for name, value in self.inputs_of(images.permute(0, 2, 3, 1).cpu().numpy()).items()}
        logits = self.model(**inputs, logits_to_keep=1).logits
        return logits[:, -1, :][:, torch.tensor(self.token_ids, device=device)]  # type: ignore[no-any-return]

    def inputs_of(self, images: NDArray[np.uint8]) -> dict[str, Tensor]:
        """Token ids and pixel values of the question with each image [H, W, 3]. All prompts are equally long, so nothing is padded."""
        conversations = [
            [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": QUESTION}]}] for image in images
        ]
        found = self.processor.apply_chat_template(
            conversations, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        return dict(found)

    def save(self, folder: Path) -> None:
        """Writes model and processor in transformers' layout."""
        self.model.save_pretrained(folder)  # type: ignore[operator]
        self.processor.save_pretrained(folder)


def load_vision_language_scorer(source: str) -> VisionLanguageScorer:
    """Loads a folder or hub id (no code from it is run). Raises InputError when it is no image-text-to-text model or lacks score tokens."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    try:
        model = AutoModelForImageTextToText.from_pretrained(source)
        processor = AutoProcessor.from_pretrained(source)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise InputError(Problem("aes.pretrained", f"cannot be loaded: {error}", source, "name an image-text-to-text model")) from error
    return VisionLanguageScorer(model, processor, score_token_ids(processor.tokenizer))
