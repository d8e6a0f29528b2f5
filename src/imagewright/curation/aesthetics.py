"""Measurable picture statistics that stand in for an aesthetic score until the project's own Aes model is trained.

They say nothing about beauty as people judge it; the dataset card labels them "measured statistics".
"""

from __future__ import annotations

import cv2
import numpy as np

OPPONENT = np.array([[1, -1, 0], [0.5, 0.5, -1]], dtype=np.float32)
"""Red against green and yellow against blue, from RGB."""
LABEL = "measured statistics, not human judgement"


def colourfulness(rgb: np.ndarray) -> float:
    """Hasler and Susstrunk, "Measuring colourfulness in natural images", 2003, of RGB [H, W, 3] uint8; 0 for grey, about 100 for vivid."""
    mean, deviation = cv2.meanStdDev(cv2.transform(rgb.astype(np.float32), OPPONENT))
    return float(np.hypot(*deviation.ravel()) + 0.3 * np.hypot(*mean.ravel()))


def contrast(grey: np.ndarray) -> float:
    """Standard deviation of grey [H, W] over 127.5: 0 flat, 1 half black and half white."""
    return float(cv2.meanStdDev(grey)[1][0, 0] / 127.5)


def edge_density(grey: np.ndarray) -> float:
    """Share of pixels on a clear edge (Sobel magnitude above 100)."""
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    return np.count_nonzero(cv2.magnitude(across, down) > 100) / grey.size


def aesthetic_statistic(rgb: np.ndarray, grey: np.ndarray) -> float:
    """One number in 0..1 from colourfulness, contrast and the calm middle of edge density, equally weighted."""
    edges = edge_density(grey)
    calm = max(0.0, 1.0 - abs(edges - 0.15) / 0.35)
    return (min(1.0, colourfulness(rgb) / 100.0) + min(1.0, contrast(grey) / 0.6) + calm) / 3.0
