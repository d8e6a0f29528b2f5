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
STROKE_WINDOW = (49, 9)
MIN_STROKES = 98
"""Stroke pixels of a window that count as text: above 0.22 of its 441."""
LINE_KERNEL = np.ones((5, 25), np.uint8)
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
        before = steps(pixels, axis)
        after = steps(cv2.blur(pixels, window), axis)
        total = cv2.sumElems(before)[0]
        # What is left of a difference: never more than there was, never less than nothing.
        scores.append(cv2.sumElems(cv2.min(before, after))[0] / total if total > 0 else 0.0)
    return max(scores)


def steps(pixels: np.ndarray, axis: int) -> np.ndarray:
    """Absolute differences of neighbours along an axis: [H, W] -> [H - 1, W] or [H, W - 1]."""
    first, second = (pixels[:-1], pixels[1:]) if axis == 0 else (pixels[:, :-1], pixels[:, 1:])
    return cv2.absdiff(first, second)


def busiest_channel(rgb: np.ndarray) -> np.ndarray:
    """The channel [H, W] of RGB [H, W, 3] that varies most: edges between colours of equal brightness show in it."""
    deviations = cv2.meanStdDev(rgb)[1].ravel()
    return np.asarray(cv2.extractChannel(rgb, int(np.argmax(deviations))))


def entropy(rgb: np.ndarray) -> float:
    """Shannon entropy in bits, 0 (one colour) to 8, of the busiest channel of RGB [H, W, 3].

    Channels, not grey: red on an equally bright green is not blank.
    """
    found = 0.0
    for number in range(rgb.shape[2]):
        counts = cv2.calcHist([rgb], [number], None, [256], [0, 256]).ravel().astype(np.float64)
        shares = counts[counts > 0] / (rgb.shape[0] * rgb.shape[1])
        found = max(found, float(-(shares * np.log2(shares)).sum()))
    return found


def border_share(grey: np.ndarray, tolerance: int = 4) -> float:
    """Share of the picture outside the box that holds everything unlike the corner's grey: 0 no border, 1 nothing but border."""
    corner = int(grey[0, 0])
    like = cv2.inRange(grey, max(0, corner - tolerance), min(255, corner + tolerance))
    _, _, width, height = cv2.boundingRect(cv2.bitwise_not(like))
    return 1.0 - float(width * height) / grey.size


def blocking(grey: np.ndarray) -> float:
    """Mean step across 8-pixel block edges over the mean step elsewhere, minus 1: about 0 without JPEG blocks."""
    if min(grey.shape) < 24:
        return 0.0
    pixels = grey.astype(np.float32)
    ratios = []
    for axis in (0, 1):
        means = cv2.reduce(steps(pixels, axis), 1 - axis, cv2.REDUCE_AVG).ravel()
        edge = np.arange(len(means)) % 8 == 7
        ratios.append(float(means[edge].mean() / (means[~edge].mean() + 0.1)))
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
    across = cv2.Sobel(pixels, cv2.CV_16S, 1, 0)
    strokes = cv2.bitwise_not(cv2.inRange(across, -64, 64))
    counts = cv2.boxFilter((np.asarray(strokes) > 0).astype(np.uint8), cv2.CV_16U, STROKE_WINDOW, normalize=False)
    dense = cv2.inRange(counts, MIN_STROKES, 441)
    lines = cv2.morphologyEx(dense, cv2.MORPH_OPEN, LINE_KERNEL)
    return cv2.countNonZero(lines) / lines.size


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
