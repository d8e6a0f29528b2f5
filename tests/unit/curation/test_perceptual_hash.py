"""The perceptual hash agrees with the field's and survives re-encoding; thumbnails tell colours apart."""

from __future__ import annotations

import imagehash
import numpy as np
from PIL import Image, ImageEnhance

from imagewright.curation.perceptual_hash import hash_input, phash, thumbnail, thumbnail_difference
from imagewright.curation.quality import grey_of

RNG = np.random.default_rng(1)
PICTURE = Image.fromarray(RNG.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize((128, 128), Image.Resampling.BICUBIC)


def hash_of(image: Image.Image) -> int:
    return int(phash(hash_input(grey_of(np.asarray(image)[None])))[0])


def bits_apart(first: Image.Image, second: Image.Image) -> int:
    return int.bit_count(hash_of(first) ^ hash_of(second))


def test_bits_and_their_order_are_those_of_imagehash() -> None:
    theirs = int(str(imagehash.phash(PICTURE)), 16)
    assert int.bit_count(hash_of(PICTURE) ^ theirs) <= 4


def test_a_smaller_or_brighter_copy_has_nearly_the_same_hash() -> None:
    assert bits_apart(PICTURE, PICTURE.resize((96, 96))) <= 4
    assert bits_apart(PICTURE, ImageEnhance.Brightness(PICTURE).enhance(1.05)) <= 4
    assert bits_apart(PICTURE, PICTURE.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) > 10


def test_a_gain_is_forgiven_and_a_colour_is_not() -> None:
    def thumbs(*images: Image.Image) -> np.ndarray:
        return np.stack([np.frombuffer(thumbnail(np.asarray(image)), np.uint8) for image in images])

    red, blue = Image.new("RGB", (32, 32), (200, 30, 30)), Image.new("RGB", (32, 32), (30, 30, 200))
    mean, largest = thumbnail_difference(thumbs(PICTURE, red), thumbs(ImageEnhance.Brightness(PICTURE).enhance(0.95), blue))
    assert mean[0] < 1.5 and largest[0] < 4
    assert mean[1] > 100 and largest[1] == 170
