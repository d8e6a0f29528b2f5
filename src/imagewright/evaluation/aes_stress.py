"""Changes that must not make a picture better, and often fool scorers: the aesthetic benchmark's stress tests.

Pure functions on RGB uint8 [H, W, 3]; the strength of each is fixed, so figures of different scorers compare.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
SHARPEN_AMOUNT = 3.0
SATURATION_FACTOR = 2.5
JPEG_QUALITY = 12


def over_sharpen(image: Pixels) -> Pixels:
    """Unsharp mask: image + 3 (image - blurred), which leaves halos around edges."""
    pixels = image.astype(np.float32)
    blurred = cv2.GaussianBlur(pixels, (0, 0), max(0.8, min(image.shape[:2]) / 64))
    return to_uint8(pixels + SHARPEN_AMOUNT * (pixels - blurred))


def over_saturate(image: Pixels) -> Pixels:
    """Colour moves 2.5 times as far from grey."""
    pixels = image.astype(np.float32)
    grey = luminance(image)[..., None]
    return to_uint8(grey + SATURATION_FACTOR * (pixels - grey))


def black_and_white(image: Pixels) -> Pixels:
    """Luminance only; public scorers are known to like it (ERNIE-Image report, section on Aes)."""
    return to_uint8(np.repeat(luminance(image)[..., None], 3, axis=2))


def watermark(image: Pixels) -> Pixels:
    """Half-transparent words in three diagonal places."""
    height, width = image.shape[:2]
    layer = np.zeros((height, width), dtype=np.uint8)
    for part in (0.25, 0.55, 0.85):
        write(layer, "SAMPLE", (round(width * (part - 0.2)), round(height * part)), height / 90)
    return blend(image, layer, 0.45)


def text_overlay(image: Pixels) -> Pixels:
    """An opaque caption over the lower quarter."""
    height, width = image.shape[:2]
    changed = image.copy()
    changed[round(height * 0.75) :] = 0
    layer = np.zeros((height, width), dtype=np.uint8)
    write(layer, "BUY NOW", (round(width * 0.05), round(height * 0.94)), height / 75)
    return blend(changed, layer, 1.0)


def jpeg(image: Pixels) -> Pixels:
    """JPEG of quality 12 and back."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None, "what was just encoded can be read"
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8)


STRESSES: Mapping[str, Callable[[Pixels], Pixels]] = {
    "over_sharpen": over_sharpen,
    "over_saturate": over_saturate,
    "watermark": watermark,
    "black_and_white": black_and_white,
    "text_overlay": text_overlay,
    "jpeg": jpeg,
}


def luminance(image: Pixels) -> NDArray[np.float32]:
    """Rec. 601 luma [H, W]."""
    return np.asarray(image.astype(np.float32) @ np.asarray([0.299, 0.587, 0.114], dtype=np.float32), dtype=np.float32)


def write(layer: Pixels, text: str, place: tuple[int, int], scale: float) -> None:
    """Draws white words into a layer [H, W]; place is the left end of their base line."""
    cv2.putText(layer, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale * 0.6, 255, max(1, round(scale)), cv2.LINE_AA)


def blend(image: Pixels, layer: Pixels, opacity: float) -> Pixels:
    """White where the layer [H, W] is set, at this opacity."""
    weight = layer.astype(np.float32)[..., None] / 255 * opacity
    return to_uint8(image.astype(np.float32) * (1 - weight) + 255 * weight)


def to_uint8(pixels: NDArray[np.floating[Any]]) -> Pixels:
    """Rounded and clipped."""
    return np.asarray(pixels.round().clip(0, 255), dtype=np.uint8)
