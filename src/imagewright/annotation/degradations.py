"""Known damage of a known severity: clean pictures become pictures whose quality is a number nobody had to guess.

The severity is a setting of the damage, not a judgement: that equal severities look equally bad is an assumption.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Damage = Callable[[NDArray[np.float32], float, np.random.Generator], NDArray[np.float32]]

JPEG_BEST, JPEG_WORST = 60, 2


@dataclass(frozen=True)
class Damaged:
    """A damaged picture. quality = 100 times the product of (1 - severity) over its damages."""

    image: Pixels
    quality: float
    kinds: tuple[str, ...]


def blur(image: NDArray[np.float32], severity: float, _: np.random.Generator) -> NDArray[np.float32]:
    """Gaussian blur, sigma up to 7% of the side."""
    sigma = 0.2 + severity * 0.07 * max(image.shape[:2])
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), dtype=np.float32)


def noise(image: NDArray[np.float32], severity: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Additive Gaussian noise of up to 70 levels."""
    return np.asarray(image + rng.normal(0, 70 * severity, image.shape), dtype=np.float32)


def jpeg(image: NDArray[np.float32], severity: float, _: np.random.Generator) -> NDArray[np.float32]:
    """JPEG from quality 60 down to 2."""
    quality = round(JPEG_BEST + severity * (JPEG_WORST - JPEG_BEST))
    data = cv2.imencode(".jpg", image.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.float32)


def colour_blotches(image: NDArray[np.float32], severity: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth random patches of wrong colour, up to 120 levels: what an undertrained decoder paints."""
    field = cv2.resize(rng.normal(0, 1, (5, 5, 3)).astype(np.float32), image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(image + 120 * severity * field, dtype=np.float32)


def washed_out(image: NDArray[np.float32], severity: float, _: np.random.Generator) -> NDArray[np.float32]:
    """Contrast and colour fade towards the mean; nothing is left at severity 1."""
    mean = image.mean(axis=(0, 1), keepdims=True)
    return np.asarray(mean + (image - mean) * (1 - 0.95 * severity), dtype=np.float32)


def broken_shapes(image: NDArray[np.float32], severity: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A smooth random displacement of up to 15% of the side: outlines bend, melt and tear."""
    height, width = image.shape[:2]
    shift = cv2.resize(rng.normal(0, 1, (6, 6, 2)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    amount = 0.15 * severity * max(height, width) / 2
    moved = cv2.remap(image, columns + amount * shift[..., 0], rows + amount * shift[..., 1], cv2.INTER_LINEAR, None, cv2.BORDER_REFLECT)
    return np.asarray(moved, dtype=np.float32)


def grid_artefacts(image: NDArray[np.float32], severity: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A checkerboard of up to 60 levels with a period of 4 pixels, as transposed convolutions leave."""
    rows, columns = np.mgrid[0 : image.shape[0], 0 : image.shape[1]]
    board = ((rows // 2 + columns // 2) % 2 * 2 - 1)[..., None] * rng.uniform(0.6, 1.4, 3)
    return np.asarray(image + 60 * severity * board, dtype=np.float32)


def misplaced_patches(image: NDArray[np.float32], severity: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Up to ten patches of a fifth of the side copied from elsewhere in the picture."""
    height, width = image.shape[:2]
    size = max(2, max(height, width) // 5)
    broken = image.copy()
    for _ in range(round(10 * severity)):
        y, x, from_y, from_x = (int(rng.integers(0, max(1, limit - size + 1))) for limit in (height, width, height, width))
        broken[y : y + size, x : x + size] = image[from_y : from_y + size, from_x : from_x + size]
    return broken


def ghosting(image: NDArray[np.float32], severity: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A second, displaced copy shines through with a weight of up to one half."""
    angle, distance = rng.uniform(0, 2 * np.pi), 0.12 * max(image.shape[:2])
    shift = (round(float(np.sin(angle)) * distance), round(float(np.cos(angle)) * distance))
    weight = 0.5 * severity
    return np.asarray((1 - weight) * image + weight * np.roll(image, shift, (0, 1)), dtype=np.float32)


def pixelated(image: NDArray[np.float32], severity: float, _: np.random.Generator) -> NDArray[np.float32]:
    """Squares of one colour, up to a sixth of the side."""
    height, width = image.shape[:2]
    factor = 1 + severity * (max(height, width) / 6 - 1)
    small = cv2.resize(image, (max(1, round(width / factor)), max(1, round(height / factor))), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST), dtype=np.float32)


DAMAGES: Mapping[str, Damage] = {
    "blur": blur,
    "noise": noise,
    "jpeg": jpeg,
    "colour_blotches": colour_blotches,
    "washed_out": washed_out,
    "broken_shapes": broken_shapes,
    "grid_artefacts": grid_artefacts,
    "misplaced_patches": misplaced_patches,
    "ghosting": ghosting,
    "pixelated": pixelated,
}


def degrade(image: Pixels, damages: Sequence[tuple[str, float]], rng: np.random.Generator) -> Damaged:
    """Applies (kind, severity in 0..1) one after the other to RGB [H, W, 3] uint8."""
    pixels = image.astype(np.float32)
    quality = 100.0
    for kind, severity in damages:
        pixels = DAMAGES[kind](pixels, severity, rng).clip(0, 255)
        quality *= 1 - severity
    return Damaged(pixels.round().astype(np.uint8), quality, tuple(kind for kind, _ in damages))


def draw_damages(kinds: Sequence[str], rng: np.random.Generator, *, clean_share: float, max_kinds: int) -> list[tuple[str, float]]:
    """Random damages of one picture: none with probability clean_share, else one to max_kinds, their qualities spread evenly over 0..1.

    The target quality is uniform, and several damages share it, so pictures with two damages are not worse on average than with one.
    """
    if rng.random() < clean_share:
        return []
    count = int(rng.integers(1, max_kinds + 1))
    chosen = [kinds[int(i)] for i in rng.permutation(len(kinds))[:count]]
    shares = rng.dirichlet(np.ones(len(chosen)))
    quality = rng.uniform(0.05, 0.97)
    return [(kind, float(1 - quality**share)) for kind, share in zip(chosen, shares, strict=True)]
