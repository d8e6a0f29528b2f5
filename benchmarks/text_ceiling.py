"""How large must samples be before OCR may rank them? The trial of `preferences.text_prompts` on the texts of typeset posters, by size.

Without --vae the pictures go through no autoencoder: what is refused here is refused behind every one.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from pathlib import Path

import numpy as np

from imagewright.config.data import DataConfig
from imagewright.evaluation.calibration import MIN_TRUE_POSITIVE
from imagewright.evaluation.judges.text import TextReader
from imagewright.evaluation.judges.text_trial import reader_card
from imagewright.evaluation.judges.verdicts import Prompt
from imagewright.evaluation.vae_quality import as_images, as_tensor
from imagewright.methods.preference_prompts import TEXT, text_prompts
from imagewright.models.vae import load_vae
from imagewright.models.vae_training import reconstruct
from imagewright.sources.ingest import ingest


def main() -> None:
    """Prints the card of the reader at every size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[32, 64, 96, 128, 192, 256])
    parser.add_argument("--texts", type=int, default=40)
    parser.add_argument("--vae", type=Path, default=None, help="folder of an autoencoder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        posters = {"num_samples": 4 * arguments.texts, "validation_fraction": 0.0}
        ingest(DataConfig.model_validate({"scenes": {"num_samples": 0}, "posters": posters}), Path(folder), 0)
        quoted = list(dict.fromkeys(prompt.quoted for prompt in text_prompts(Path(folder), 0)))[: arguments.texts]
    vae = None if arguments.vae is None else load_vae(arguments.vae)

    def through(images: np.ndarray) -> np.ndarray:
        return images if vae is None else as_images(reconstruct(vae, as_tensor(images), 8))

    print(f"{len(quoted)} texts of posters in English and Chinese, autoencoder: {arguments.vae.name if arguments.vae else 'none'}")
    print(f"{platform.machine()}, {os.cpu_count()} cores; at least {MIN_TRUE_POSITIVE} is required")
    prompts = [Prompt(f"{TEXT}-{place}", TEXT, text, text) for place, text in enumerate(quoted)]
    for side in arguments.sides:
        card = reader_card(TextReader(), prompts, side, through, np.random.default_rng(0), 0)
        floors = ", ".join(f"{name} {value:.3f}" for name, value in card.floors.items())
        verdict = "refused" if card.refused or (card.ceiling_through_vae or 0.0) < MIN_TRUE_POSITIVE else "may rank"
        print(
            f"{side:4d} px: read {card.ceiling:.3f}, through the autoencoder {card.ceiling_through_vae:.3f}; {floors}: {verdict}",
            flush=True,
        )


if __name__ == "__main__":
    main()
