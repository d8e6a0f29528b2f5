"""Aspect buckets: the (height, width) classes images are resized to before encoding; curated samples -> buckets -> latents.

Sides are multiples of the latent stride, areas stay near resolution squared, so every bucket costs about the same number of tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from imagewright.errors import InputError, Problem

# The sizes the released model card suggests for its 1024 stage, as (height, width).
RELEASED_SIZES_1024 = ((1024, 1024), (1264, 848), (848, 1264), (1376, 768), (768, 1376), (1200, 896), (896, 1200))
RELEASED_STRIDE = 16
AREA_TOLERANCE = 0.15


class BucketError(InputError):
    """A resolution that no bucket can have."""


@dataclass(frozen=True, order=True)
class Bucket:
    """One class of picture sizes."""

    height: int
    """Pixels, a multiple of the stride."""
    width: int

    @property
    def aspect(self) -> float:
        """width / height."""
        return self.width / self.height

    def num_tokens(self, stride: int) -> int:
        """Image tokens of one picture: (height / stride) * (width / stride)."""
        return (self.height // stride) * (self.width // stride)


def latent_stride(block_out_channels: Sequence[int]) -> int:
    """Pixels per packed latent token and side: 2 ** len(block_out_channels).

    n blocks halve the picture n - 1 times, packing 2x2 halves it once more; the released VAE has four blocks: 16.
    """
    if not block_out_channels:
        raise BucketError(Problem("vae.block_out_channels", "must name at least one block", list(block_out_channels)))
    return 1 << len(block_out_channels)


def aspect_buckets(resolution: int, stride: int, max_aspect: float = 2.0) -> tuple[Bucket, ...]:
    """Every bucket of a stage: sides multiples of `stride`, area within 15% of resolution**2, 1/max_aspect <= width/height <= max_aspect.

    At resolution 1024 and stride 16 the seven released sizes are always among them. Raises BucketError when resolution is not a
    multiple of stride.
    """
    if resolution < stride or resolution % stride:
        fix = f"use {max(stride, resolution // stride * stride)}"
        raise BucketError(Problem("resolution", f"must be a multiple of the latent stride {stride}", resolution, fix))
    area = resolution * resolution
    found = {Bucket(resolution, resolution)}
    for height in range(stride, int(resolution * math.sqrt(max_aspect)) + stride, stride):
        width = max(stride, round(area / height / stride) * stride)
        if 1 / max_aspect <= width / height <= max_aspect and abs(width * height / area - 1) <= AREA_TOLERANCE:
            found.update((Bucket(height, width), Bucket(width, height)))
    if resolution == 1024 and stride == RELEASED_STRIDE:
        found.update(Bucket(height, width) for height, width in RELEASED_SIZES_1024)
    return tuple(sorted(found))


def nearest_bucket(height: int, width: int, buckets: Sequence[Bucket]) -> Bucket:
    """The bucket whose aspect is nearest on a log scale (so 2:1 and 1:2 are equally far from 1:1), the larger area at a tie."""
    wanted = math.log(width / height)
    return min(buckets, key=lambda bucket: (round(abs(math.log(bucket.aspect) - wanted), 9), -bucket.height * bucket.width, bucket.height))


def fit_to_bucket(image: np.ndarray, bucket: Bucket) -> np.ndarray:
    """Resizes RGB [H, W, 3] uint8 to cover the bucket, then crops the middle: [bucket.height, bucket.width, 3]."""
    height, width = image.shape[:2]
    scale = max(bucket.height / height, bucket.width / width)
    size = max(bucket.width, round(width * scale)), max(bucket.height, round(height * scale))
    resized = (
        image if size == (width, height) else np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))
    )
    top, left = (size[1] - bucket.height) // 2, (size[0] - bucket.width) // 2
    return resized[top : top + bucket.height, left : left + bucket.width]
