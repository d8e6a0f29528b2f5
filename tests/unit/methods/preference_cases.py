"""A tiny generator and a scorer for builds of preference pairs."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from imagewright.config import load_recipe
from imagewright.evaluation.generation import Generator
from imagewright.models.dit import ErnieImageDiT
from imagewright.models.text_encoder import load_text_encoder
from imagewright.models.vae import build_vae


class Brightness:
    """Prefers bright images."""

    def score(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Mean brightness, 0..100."""
        scores: NDArray[np.float64] = images.mean(axis=(1, 2, 3)) / 2.55
        return scores


def small_generator() -> Generator:
    """Two layers of random weights that paint something different for every seed."""
    recipe = load_recipe("debug")
    torch.manual_seed(0)
    model = ErnieImageDiT(recipe.model.model_copy(update={"num_layers": 2}))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return Generator(model.eval(), build_vae(recipe.vae).eval(), load_text_encoder(recipe.text_encoder), "tiny", 32)
