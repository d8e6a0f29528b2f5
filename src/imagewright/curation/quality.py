"""Quality measures of one decoded image: blur, entropy, border, blocking, text coverage. Pure functions; the filter decides.

All take grey pixels [H, W] uint8 (or RGB [H, W, 3]) and return a float.
"""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

# Curation runs one process a core; OpenCV's own threads would compete with the other workers.
cv2.setNumThreads(1)

BLUR_WINDOW = 9
# Quality 50 of the JPEG standard (ITU-T T.81, table K.1): the sum of its 64 luminance steps scales the estimate.
STANDARD_LUMINANCE_SUM = 3688


def blur_effect(grey: np.ndarray) -> float:
    """0 (sharp) to 1 (blurred): the share of neighbour differences that survives a second blur.

    Crete, Dolmiere, Ladret, Nicolas, "The blur effect: perception and estimation with a new no-reference perceptual blur metric", 2007:
    the larger of the scores along rows and columns. A flat image has no differences to lose and scores 0.
    """
    pixels = grey.astype(np.float32)
    scores = []
    for axis, window in ((1, (BLUR_WINDOW, 1)), (0, (1, BLUR_WINDOW))):
        again = cv2.blur(pixels, window)
        before = np.abs(np.diff(pixels, axis=axis))
        lost = np.maximum(0.0, before - np.abs(np.diff(again, axis=axis)))
        total = float(before.sum())
        scores.append((total - float(lost.sum())) / total if total > 0 else 0.0)
    return max(scores)


def busiest_channel(rgb: np.ndarray) -> np.ndarray:
    """The channel [H, W] of RGB [H, W, 3] that varies most: edges between colours of equal brightness show in it."""
    return np.asarray(rgb[:, :, int(np.argmax(rgb.std(axis=(0, 1))))])


def entropy(rgb: np.ndarray) -> float:
    """Shannon entropy in bits, 0 (one colour) to 8, of the busiest channel of RGB [H, W, 3].

    Channels, not grey: red on an equally bright green is not blank.
    """
    found = 0.0
    for channel in cv2.split(rgb):
        counts = np.bincount(channel.ravel(), minlength=256)
        shares = counts[counts > 0] / channel.size
        found = max(found, float(-(shares * np.log2(shares)).sum()))
    return found


def border_share(grey: np.ndarray, tolerance: int = 4) -> float:
    """Share of the picture outside the box that holds everything unlike the corner's grey: 0 no border, 1 nothing but border."""
    unlike = np.abs(grey.astype(np.int16) - int(grey[0, 0])) > tolerance
    rows, columns = np.flatnonzero(unlike.any(axis=1)), np.flatnonzero(unlike.any(axis=0))
    if not len(rows):
        return 1.0
    return 1.0 - float((rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)) / grey.size


def blocking(grey: np.ndarray) -> float:
    """Mean step across 8-pixel block edges over the mean step elsewhere, minus 1: about 0 without JPEG blocks."""
    if min(grey.shape) < 24:
        return 0.0
    pixels = grey.astype(np.float32)
    ratios = []
    for axis in (0, 1):
        steps = np.abs(np.diff(pixels, axis=axis)).mean(axis=1 - axis)
        edge = np.arange(len(steps)) % 8 == 7
        ratios.append(float(steps[edge].mean() / (steps[~edge].mean() + 0.1)))
    return max(0.0, min(ratios) - 1.0)


def jpeg_quality(image: Image.Image) -> float | None:
    """Quality 1..100 estimated from a JPEG's luminance quantisation table (inverse of libjpeg's scaling); None for other formats."""
    tables = getattr(image, "quantization", None)
    if not tables:
        return None
    scale = 100.0 * sum(tables[min(tables)]) / STANDARD_LUMINANCE_SUM
    return float(np.clip(5000.0 / scale if scale > 100 else (200.0 - scale) / 2, 1, 100))


def text_coverage(grey: np.ndarray) -> float:
    """Share of the picture under text-like strokes: places where a low, wide window is dense with vertical edges.

    A cheap detector (no model); it also answers to fences and keyboards, so it only proposes. Windows are sized for lines of text
    between about 4% and 25% of the longer side.
    """
    height, width = grey.shape
    scale = 256 / max(height, width)
    pixels = cv2.resize(grey, (max(48, round(width * scale)), max(24, round(height * scale))), interpolation=cv2.INTER_LINEAR)
    strokes = np.abs(cv2.Sobel(pixels, cv2.CV_16S, 1, 0)) > 64
    density = cv2.blur(strokes.astype(np.float32), (49, 9))
    dense = (density > 0.22).astype(np.uint8)
    lines = cv2.morphologyEx(dense, cv2.MORPH_OPEN, np.ones((5, 25), np.uint8))
    return float(lines.mean())


def shrink(rgb: np.ndarray, max_side_px: int) -> np.ndarray:
    """RGB [H, W, 3] shrunk by area so that the longer side is at most max_side_px; smaller pictures are returned as they are."""
    height, width = rgb.shape[:2]
    scale = max_side_px / max(height, width)
    if scale >= 1:
        return rgb
    return np.asarray(cv2.resize(rgb, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA))


def grey_of(rgb: np.ndarray) -> np.ndarray:
    """Luma [H, W] uint8 of RGB [H, W, 3]."""
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
