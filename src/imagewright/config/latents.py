"""Section `latents`: how curated images and captions become latents and prompt embeddings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from imagewright.config.base import Section


class EncodingConfig(Section):
    """Encoding of the curated manifest, bucket by bucket."""

    resolutions_px: tuple[int, ...] = Field(default=(32,), min_length=1, max_length=8)
    """Stage resolutions; every image is encoded once at each, in its aspect bucket (256, 512, 1024 in the report)."""
    max_aspect: float = Field(default=2.0, ge=1, le=8)
    """Widest and tallest bucket."""
    languages: tuple[str, ...] = ()
    """Caption languages to encode; empty encodes all (a text encoder that reads one language should be given that one)."""
    max_captions: int = Field(default=0, ge=0, le=64)
    """Captions encoded of each image, drawn over its forms; 0 encodes all. Prompt embeddings are most of the bytes."""
    splits: tuple[str, ...] = ("train", "validation")
    """Manifest splits that are encoded; holdouts stay out of training data."""
    batch_size: int = Field(default=64, ge=1, le=4096)
    """Images of one bucket encoded at once."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """How numbers are stored."""
