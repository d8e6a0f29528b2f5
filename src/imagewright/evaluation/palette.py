"""What the scene judge knows about colours and shapes. Kept apart from the generator's package on purpose.

A judge that shared the generator's tables would agree with its mistakes.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

TEMPLATE_PX = 16
CANVAS_PX = 180
BLURS = (0.0, 0.04, 0.08, 0.12)
"""Blur of an edge as a share of the shape's side: a sharp large shape to a 10 px shape through a decoder."""

# Reference values of colour names, sRGB. Neutrals are named so that a grey blob is called grey, not the nearest hue.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (218, 32, 36),
    "orange": (250, 142, 14),
    "yellow": (242, 216, 28),
    "green": (28, 148, 56),
    "cyan": (10, 200, 216),
    "blue": (36, 62, 214),
    "purple": (128, 36, 166),
    "pink": (250, 124, 188),
}
NEUTRALS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "grey": (190, 190, 190),
    "dim grey": (105, 105, 105),
    "black": (18, 18, 20),
}
SHAPES = ("circle", "square", "triangle", "star", "cross")
UNKNOWN = "unknown"


def nearest_colour(rgb: NDArray[np.float32], max_distance: float = 95.0) -> str:
    """Name of the nearest reference colour of an sRGB value [3], or "unknown" when none lies within max_distance."""
    names = [*COLOURS, *NEUTRALS]
    table = np.array([*COLOURS.values(), *NEUTRALS.values()], dtype=np.float32)
    distances = np.linalg.norm(table - rgb, axis=1)
    best = int(distances.argmin())
    return names[best] if distances[best] <= max_distance else UNKNOWN


@cache
def shape_templates() -> NDArray[np.float32]:
    """Coverage of each shape in its bounding box at each blur: [len(SHAPES), len(BLURS), TEMPLATE_PX, TEMPLATE_PX] in 0..1.

    Small objects lose their tips to pixels and decoders; the box of a blurred shape is smaller too, so both are made the way they are read.
    """
    margin = 0.4
    axis = np.linspace(-margin, 1 + margin, CANVAS_PX)
    x, y = np.meshgrid(axis, axis)
    arm = 1 / 6
    masks = {
        "circle": (x - 0.5) ** 2 + (y - 0.5) ** 2 <= 0.25,
        "square": (np.abs(x - 0.5) <= 0.5) & (np.abs(y - 0.5) <= 0.5),
        "triangle": (np.abs(x - 0.5) <= y / 2) & (y <= 1),
        "star": inside_polygon(x, y, star_corners()),
        "cross": np.minimum(np.abs(x - 0.5), np.abs(y - 0.5)) <= arm,
    }
    masks["cross"] &= masks["square"]
    return np.stack([np.stack([in_own_box(masks[name], blur, axis[1] - axis[0]) for blur in BLURS]) for name in SHAPES])


def in_own_box(mask: NDArray[np.bool_], blur: float, step: float) -> NDArray[np.float32]:
    """Blurs a mask by `blur` (share of the shape's side; `step` per canvas pixel) and resamples its half-coverage box."""
    coverage = ndimage.gaussian_filter(mask.astype(np.float32), blur / step)
    columns, rows = (np.flatnonzero(coverage.max(axis=side) >= 0.5) for side in (0, 1))
    box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    return np.asarray(Image.fromarray(coverage).resize((TEMPLATE_PX, TEMPLATE_PX), Image.Resampling.BOX, box=box))


def star_corners() -> NDArray[np.float64]:
    """Ten corners [10, 2] of a five-pointed star, point up, stretched to the unit box."""
    angles = np.pi / 2 + np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)
    corners = np.stack([radii * np.cos(angles), -radii * np.sin(angles)], axis=1)
    low, high = corners.min(axis=0), corners.max(axis=0)
    return np.asarray((corners - low) / (high - low))


def inside_polygon(x: NDArray[np.float64], y: NDArray[np.float64], corners: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Even-odd rule for every point of the grids x, y."""
    inside = np.zeros(x.shape, dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        crosses = (y0 > y) != (y1 > y)
        inside ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0 if y1 != y0 else 1.0) + x0)
    return inside
