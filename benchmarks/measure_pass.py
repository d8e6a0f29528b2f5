"""Probe, perceptual hash and quality of encoded images: our single-decode pass against a plain Pillow + imagehash loop on the same bytes.

Both read the header, decode, hash and measure blur and entropy; the peer does so at full size, as its documentation shows.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image

from imagewright.curation.measure import MEASURE_SIDE_PX, MeasureStage, measure
from imagewright.curation.perceptual_hash import phash
from imagewright.curation.quality import blur_effect, entropy, grey_of, shrink
from imagewright.data.images import DEFAULT_LIMITS, decode_rgb

TARGET = 5.0
RESULT = Path(__file__).parent / "results" / "measure_pass.txt"


def ours(data: bytes) -> dict[str, object]:
    """Every column of the stage."""
    return measure(data, DEFAULT_LIMITS)


def ours_same_columns(data: bytes) -> tuple[int, float, float]:
    """Only what the peer computes: hash, sharpness, entropy, within the same limits on size and time."""
    small = shrink(decode_rgb(data, DEFAULT_LIMITS, max_side_px=MEASURE_SIDE_PX), MEASURE_SIDE_PX)
    grey = grey_of(small)
    return phash(grey), blur_effect(grey), entropy(small)


def peer(data: bytes) -> tuple[object, float, float]:
    """Pillow + imagehash: pHash, variance of a Laplacian, entropy."""
    image = Image.open(io.BytesIO(data))
    found = imagehash.phash(image)
    grey = np.asarray(image.convert("L"), dtype=np.float64)
    laplacian = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return found, float(laplacian.var()), image.convert("L").entropy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    versions = f"Pillow {Image.__version__}, imagehash {imagehash.__version__}"
    lines = [
        f"command: python benchmarks/measure_pass.py --images {options.images} --runs {options.runs}",
        f"machine: {platform.machine()}, one thread, load {os.getloadavg()[0]:.1f}; {versions}",
        "synthetic photo-like images; medians of interleaved runs, CPU ms an image",
        f"all: the {len(MeasureStage.outputs)} columns of the stage: {', '.join(MeasureStage.outputs)}",
        "same: hash, sharpness and entropy, what the peer (Pillow + imagehash.phash, variance of a Laplacian, entropy) computes",
    ]
    for side, kind in ((64, "PNG"), (512, "JPEG"), (2048, "JPEG")):
        encoded = pictures(side, kind, options.images)
        every, same, theirs = timed((ours, ours_same_columns, peer), encoded, options.runs)
        verdict = "Reached" if theirs / every >= TARGET else "Missed"
        lines.append(
            f"{side} px {kind}: all {every * 1e3:.2f} ms, same {same * 1e3:.2f} ms, peer {theirs * 1e3:.2f} ms; "
            f"peer/all {theirs / every:.2f}, peer/same {theirs / same:.2f}; target {TARGET:g} for all: {verdict}"
        )
    print("\n".join(lines))
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


def pictures(side: int, kind: str, count: int) -> list[bytes]:
    """Encoded smooth noise."""
    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(count):
        noise = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        noise.save(buffer, kind)
        encoded.append(buffer.getvalue())
    return encoded


def timed(functions: tuple[Callable[[bytes], object], ...], encoded: list[bytes], runs: int) -> list[float]:
    """Median CPU seconds an image of each function, interleaved."""
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(runs):
        for found, function in zip(seconds, functions, strict=True):
            start = time.process_time()
            for data in encoded:
                function(data)
            found.append((time.process_time() - start) / len(encoded))
    return [statistics.median(found) for found in seconds]


if __name__ == "__main__":
    main()
