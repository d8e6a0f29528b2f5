"""Quality measures of decoded images: blur, entropy, border, blocking, text coverage. Pure functions; the filter decides.

All take a stack of pictures of one size (grey [N, H, W] or RGB [N, H, W, 3] uint8) and return [N] floats: a pool of small pictures
costs calls, not pixels. Sums are of whole numbers, so a picture's values do not depend on what it is stacked with.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

# Curation runs one process a core; OpenCV's own threads would compete with the other workers.
cv2.setNumThreads(1)

BLUR_WINDOW = 9
BLOCK_PX = 8
MIN_BLOCKING_SIDE_PX = 24
STROKE_WINDOW = (49, 9)
MIN_STROKES = 98
"""Stroke pixels of a window that count as text: above 0.22 of its 441."""
MIN_STROKE_STEP = 64
TEXT_SIDE_PX = 256
MIN_TEXT_SIDE_PX = 48
LINE_KERNEL = np.ones((5, 25), np.uint8)
# Quality 50 of the JPEG standard (ITU-T T.81, table K.1): the sum of its 64 luminance steps scales the estimate.
STANDARD_LUMINANCE_SUM = 3688
GREY_LEVELS = np.arange(256, dtype=np.float64)


def blur_effect(grey: np.ndarray) -> np.ndarray:
    """0 (sharp) to 1 (blurred): the share of neighbour differences that survives a second blur. [N, H, W] -> [N].

    Crete, Dolmiere, Ladret, Nicolas, "The blur effect: perception and estimation with a new no-reference perceptual blur metric", 2007:
    the larger of the scores along rows and columns. A flat image has no differences to lose and scores 0.
    """
    return np.asarray(np.maximum(blur_along_rows(grey), blur_along_rows(transposed(grey))))


def blur_along_rows(grey: np.ndarray) -> np.ndarray:
    """The share along rows of [N, H, W]; the window's sum stands for its mean, so that everything stays a whole number."""
    num, _, width = grey.shape
    if width < 2:
        return np.zeros(num)
    before = row_steps(grey).astype(np.uint16) * np.uint16(BLUR_WINDOW)
    sums = cv2.boxFilter(grey.reshape(-1, width), cv2.CV_16U, (BLUR_WINDOW, 1), normalize=False)
    after = cv2.absdiff(sums[:, :-1], sums[:, 1:])
    # What is left of a difference: never more than there was, never less than nothing.
    left = sum_each(np.minimum(before.reshape(-1, width - 1), after), num)
    total = sum_each(before, num)
    return np.asarray(np.divide(left, total, out=np.zeros(num), where=total > 0))


def row_steps(grey: np.ndarray) -> np.ndarray:
    """Absolute differences of neighbours in a row: [N, H, W] -> [N, H, W - 1]."""
    num, height, width = grey.shape
    rows = grey.reshape(-1, width)
    return np.asarray(cv2.absdiff(rows[:, :-1], rows[:, 1:])).reshape(num, height, width - 1)


def transposed(grey: np.ndarray) -> np.ndarray:
    """[N, H, W] -> [N, W, H], contiguous."""
    turned = np.empty((grey.shape[0], grey.shape[2], grey.shape[1]), grey.dtype)
    for picture, target in zip(grey, turned, strict=True):
        cv2.transpose(picture, dst=target)
    return turned


def sum_each(values: np.ndarray, num: int) -> np.ndarray:
    """Exact sums of each picture's whole numbers: anything of N x M elements -> [N] float64."""
    return np.asarray(values.reshape(num, -1).sum(axis=1, dtype=np.uint64), dtype=np.float64)


def channel_histograms(rgb: np.ndarray) -> np.ndarray:
    """Counts of the 256 values of every channel: [N, H, W, 3] -> [N, 3, 256] float64."""
    counts = np.empty((len(rgb), 3, 256, 1), np.float32)
    for picture, target in zip(rgb, counts, strict=True):
        for channel in range(3):
            cv2.calcHist([picture], [channel], None, [256], [0, 256], hist=target[channel])
    return counts[..., 0].astype(np.float64)


def busiest_channel(rgb: np.ndarray, histograms: np.ndarray) -> np.ndarray:
    """The channel [N, H, W] of RGB [N, H, W, 3] that varies most: edges between colours of equal brightness show in it."""
    first, second = histograms @ GREY_LEVELS, histograms @ GREY_LEVELS**2
    chosen = np.argmax(second * (rgb.shape[1] * rgb.shape[2]) - first**2, axis=1)
    return np.stack([cv2.extractChannel(picture, int(channel)) for picture, channel in zip(rgb, chosen, strict=True)])


def entropy(histograms: np.ndarray) -> np.ndarray:
    """Shannon entropy in bits, 0 (one colour) to 8, of the busiest channel: counts [N, 3, 256] -> [N].

    Channels, not grey: red on an equally bright green is not blank.
    """
    shares = histograms / histograms.sum(axis=2, keepdims=True)
    bits = -shares * np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    return np.asarray(np.maximum(0.0, bits.sum(axis=2)).max(axis=1))


def border_share(grey: np.ndarray, tolerance: int = 4) -> np.ndarray:
    """Share of a picture outside the box that holds everything unlike the corner's grey: 0 no border, 1 nothing but border."""
    height, width = grey.shape[1:]
    corner = grey[:, :1, :1].astype(np.int16)
    low, high = np.maximum(0, corner - tolerance).astype(np.uint8), np.minimum(255, corner + tolerance).astype(np.uint8)
    unlike = (grey < low) | (grey > high)
    return np.asarray(1.0 - extent(np.asarray(unlike.any(axis=2))) * extent(np.asarray(unlike.any(axis=1))) / (height * width))


def extent(marks: np.ndarray) -> np.ndarray:
    """Length from the first to the last mark of each row, 0 without any: [N, M] bool -> [N]."""
    spans = marks.shape[1] - marks.argmax(axis=1) - marks[:, ::-1].argmax(axis=1)
    return np.asarray(np.where(marks.any(axis=1), spans, 0))


def blocking(grey: np.ndarray) -> np.ndarray:
    """Mean step across 8-pixel block edges over the mean step elsewhere, minus 1: about 0 without JPEG blocks. [N, H, W] -> [N]."""
    if min(grey.shape[1:]) < MIN_BLOCKING_SIDE_PX:
        return np.zeros(len(grey))
    return np.asarray(np.maximum(0.0, np.minimum(block_steps(grey), block_steps(transposed(grey))) - 1.0))


def block_steps(grey: np.ndarray) -> np.ndarray:
    """Mean step in a row across block edges over the mean of the other steps: [N, H, W] -> [N]."""
    steps = row_steps(grey)
    num, height, width = steps.shape
    edges = steps[:, :, BLOCK_PX - 1 :: BLOCK_PX]
    at_edges = edges.sum(axis=(1, 2), dtype=np.uint64).astype(np.float64)
    num_edges = height * edges.shape[2]
    elsewhere = (sum_each(steps, num) - at_edges) / (height * width - num_edges)
    return np.asarray(at_edges / num_edges / (elsewhere + 0.1))


def jpeg_quality(luminance: Sequence[int]) -> float | None:
    """Quality 1..100 estimated from a JPEG's 64 luminance quantisation steps (inverse of libjpeg's scaling); None without any."""
    if not luminance:
        return None
    scale = 100.0 * sum(luminance) / STANDARD_LUMINANCE_SUM
    return float(np.clip(5000.0 / scale if scale > 100 else (200.0 - scale) / 2, 1, 100))


def text_coverage(grey: np.ndarray) -> np.ndarray:
    """Share of a picture under text-like strokes: places where a low, wide window is dense with vertical edges. [N, H, W] -> [N].

    A cheap detector (no model); it also answers to fences and keyboards, so it only proposes. Windows are sized for lines of text
    between about 4% and 25% of the longer side, which in a picture under 48 px nobody can read: there it is 0.
    """
    height, width = grey.shape[1:]
    scale = TEXT_SIDE_PX / max(height, width)
    if max(height, width) < MIN_TEXT_SIDE_PX:
        return np.zeros(len(grey))
    size = (max(MIN_TEXT_SIDE_PX, round(width * scale)), max(MIN_TEXT_SIDE_PX // 2, round(height * scale)))
    return np.array([stroke_share(cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)) for picture in grey])


def stroke_share(pixels: np.ndarray) -> float:
    """Text coverage of one grey picture at the working size."""
    across = cv2.Sobel(pixels, cv2.CV_16S, 1, 0)
    strokes = (np.abs(across) > MIN_STROKE_STEP).view(np.uint8)
    if not strokes.any():
        return 0.0
    dense = (np.asarray(cv2.boxFilter(strokes, cv2.CV_16U, STROKE_WINDOW, normalize=False)) >= MIN_STROKES).view(np.uint8)
    if not dense.any():
        return 0.0
    return cv2.countNonZero(cv2.morphologyEx(dense, cv2.MORPH_OPEN, LINE_KERNEL)) / dense.size


def shrink(rgb: np.ndarray, max_side_px: int) -> np.ndarray:
    """RGB [H, W, 3] shrunk by area so that the longer side is at most max_side_px; smaller pictures are returned as they are."""
    height, width = rgb.shape[:2]
    scale = max_side_px / max(height, width)
    if scale >= 1:
        return rgb
    return np.asarray(cv2.resize(rgb, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA))


def grey_of(rgb: np.ndarray) -> np.ndarray:
    """Luma uint8 of RGB: [..., W, 3] -> [..., W]."""
    tall = rgb.reshape(-1, rgb.shape[-2], 3)
    return np.asarray(cv2.cvtColor(tall, cv2.COLOR_RGB2GRAY)).reshape(rgb.shape[:-1])
