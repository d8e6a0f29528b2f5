"""A raw sample: the one form in which every source hands images to ingest."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from imagewright.data.manifest import Caption


@dataclass(frozen=True)
class RawSample:
    """One image as its source gave it, bytes untouched, with what the source says about it."""

    sample_key: str
    """Permanent: derived from the source and the sample's identity there, never from its position in a run."""
    image: bytes
    extension: str
    source: str
    licence: str
    captions: tuple[Caption, ...]
    style: str = ""
    concept: str = ""
    category: str = ""
    split: str = "train"
    visible_text: str = ""
    scene: str = ""
    width: int = 0
    height: int = 0


def stream(seed: int, source: str, index: int) -> np.random.Generator:
    """The random stream of one sample: a function of (seed, source, index) only, so samples can be made in any order."""
    return np.random.default_rng([seed, zlib.crc32(source.encode()), index])
