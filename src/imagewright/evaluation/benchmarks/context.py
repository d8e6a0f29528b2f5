"""What suites are made from: the data, the autoencoder and the settings of one evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imagewright.config.evaluation import EvaluationConfig
from imagewright.data.pixels import PixelSet
from imagewright.evaluation.vae_quality import as_images, as_tensor
from imagewright.models.vae import Autoencoder
from imagewright.models.vae_training import reconstruct


@dataclass(frozen=True)
class SuiteContext:
    """Inputs of every suite. scenes: held-out ground truth at the resolution models are painted at."""

    config: EvaluationConfig
    curated: Path
    scenes: PixelSet
    vae: Autoencoder
    seed: int
    aes: Path | None = None
    """Payload of the aesthetic model, where one was given."""

    def through_vae(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Images [N, H, W, 3] after encode-decode: what a perfect model behind this autoencoder would paint."""
        return as_images(reconstruct(self.vae, as_tensor(images), self.config.batch_size))

    def rng(self, name: str) -> np.random.Generator:
        """The stream of one suite."""
        return np.random.default_rng([self.seed, *name.encode()])
