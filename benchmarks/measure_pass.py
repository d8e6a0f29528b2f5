"""Probe, perceptual hash and quality of encoded images: our single-decode pass against plain loops of the field on the same bytes.

Peers: Pillow + imagehash (header, pHash, variance of a Laplacian, entropy, at full size, as its documentation shows) and, where
`--imagededup` names a folder it was unpacked to (`pip install --no-deps --target FOLDER imagededup`), imagededup's PHash encoder, which
makes the hash alone. Its package imports torchvision for the CNN that is not used here; the two `__init__` files that do so are passed
over, the encoder's own code is not touched.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import platform
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
from PIL import Image

from imagewright.config.data import ScenesConfig
from imagewright.curation.measure import MEASURE_SIDE_PX, MeasureStage, measure_all
from imagewright.curation.perceptual_hash import hash_input, phash
from imagewright.curation.quality import blur_effect, channel_histograms, entropy, grey_of, shrink
from imagewright.data.images import DEFAULT_LIMITS, decode_with_header
from imagewright.sources.scenes import scene_samples

TARGET = 5.0
DEDUP_TARGET = 3.0
RESULT = Path(__file__).parent / "results" / "measure_pass.txt"


def every_column(encoded: Sequence[bytes]) -> object:
    """Every column of the stage."""
    return measure_all(encoded, DEFAULT_LIMITS)


def same_columns(encoded: Sequence[bytes]) -> object:
    """Only what Pillow + imagehash computes: hash, sharpness, entropy, within the same limits. All pictures have one size."""
    rgb = np.stack([shrink(pixels, MEASURE_SIDE_PX) for pixels in decode_only(encoded)])
    grey = grey_of(rgb)
    return phash(hash_input(grey)), blur_effect(grey), entropy(channel_histograms(rgb))


def decode_only(encoded: Sequence[bytes]) -> list[np.ndarray]:
    """The floor of any pass: header and pixels."""
    return [decode_with_header(data, DEFAULT_LIMITS, max_side_px=MEASURE_SIDE_PX)[1] for data in encoded]


def pillow_imagehash(encoded: Sequence[bytes]) -> object:
    """Pillow + imagehash: pHash, variance of a Laplacian, entropy."""
    return [pillow_imagehash_one(data) for data in encoded]


def pillow_imagehash_one(data: bytes) -> tuple[object, float, float]:
    """One picture of the plain loop."""
    image = Image.open(io.BytesIO(data))
    found = imagehash.phash(image)
    grey = np.asarray(image.convert("L"), dtype=np.float64)
    laplacian = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return found, float(laplacian.var()), image.convert("L").entropy()


def imagededup_encoder(folder: Path) -> Any:
    """An instance of imagededup.methods.PHash from an unpacked package, without importing torchvision."""
    sys.path.insert(0, str(folder))
    for name in ("methods", "utils"):
        package = types.ModuleType(f"imagededup.{name}")
        package.__path__ = [str(folder / "imagededup" / name)]
        sys.modules[package.__name__] = package
    return importlib.import_module("imagededup.methods.hashing").PHash(verbose=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=24, help="of 512 px and more; sixteen times as many small ones")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--imagededup", type=Path, help="folder that holds the unpacked package")
    options = parser.parse_args()
    encoder = imagededup_encoder(options.imagededup) if options.imagededup else None
    dedup = f", imagededup {importlib.import_module('imagededup').__version__}" if encoder else ", imagededup not given"
    lines = [
        f"command: python benchmarks/measure_pass.py --images {options.images} --runs {options.runs}"
        + (" --imagededup FOLDER" if encoder else ""),
        f"machine: {platform.machine()}, one thread, load {os.getloadavg()[0]:.1f}",
        f"peers: Pillow {Image.__version__}, imagehash {imagehash.__version__}{dedup}",
        "medians of interleaved runs, CPU ms an image; 32 px: composed scenes, others: synthetic photo-like noise",
        f"all: the {len(MeasureStage.outputs)} columns of the stage: {', '.join(MeasureStage.outputs)}",
        "same: hash, sharpness and entropy, what Pillow + imagehash.phash, variance of a Laplacian and entropy compute",
        "decode: header and pixels alone, part of all and of same",
        "imagededup: PHash.encode_image from a file, the hash alone; ours reads the same files for that comparison",
    ]
    for side, kind in ((32, "PNG"), (64, "PNG"), (512, "JPEG"), (2048, "JPEG")):
        encoded = scenes(16 * options.images) if side == 32 else pictures(side, kind, options.images * (16 if side == 64 else 1))
        lines += compare(f"{side} px {kind}", encoded, options.runs, encoder)
    print("\n".join(lines))
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


def compare(title: str, encoded: list[bytes], runs: int, encoder: Any) -> list[str]:
    """Lines of one kind of picture."""
    every, same, decode, plain = timed([lambda f=f: f(encoded) for f in (every_column, same_columns, decode_only, pillow_imagehash)], runs)
    scale = 1e3 / len(encoded)
    lines = [
        f"{title}: all {every * scale:.3f}, same {same * scale:.3f}, decode {decode * scale:.3f}, Pillow + imagehash {plain * scale:.3f}; "
        f"peer/all {plain / every:.2f}, peer/same {plain / same:.2f}, peer/decode {plain / decode:.2f}; {verdict(plain / every, TARGET)}"
    ]
    if encoder is not None:
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{index}.bin" for index in range(len(encoded))]
            for path, data in zip(paths, encoded, strict=True):
                path.write_bytes(data)
            every, theirs = timed(
                [
                    lambda: every_column([path.read_bytes() for path in paths]),
                    lambda: [encoder.encode_image(image_file=str(path)) for path in paths],
                ],
                runs,
            )
        lines.append(
            f"{title}: all {every * scale:.3f}, imagededup {theirs * scale:.3f}; peer/all {theirs / every:.2f}; "
            + verdict(theirs / every, DEDUP_TARGET)
        )
    return lines


def verdict(ratio: float, target: float) -> str:
    """Whether a ratio reaches its target."""
    return f"target {target:g} for all: {'Reached' if ratio >= target else 'Missed'}"


def scenes(count: int) -> list[bytes]:
    """Composed scenes as the demo's pool holds them."""
    return [sample.image for sample in scene_samples(ScenesConfig(num_samples=count), 0)]


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


def timed(passes: Sequence[Callable[[], object]], runs: int) -> list[float]:
    """Median CPU seconds of each pass over all images, interleaved."""
    seconds: list[list[float]] = [[] for _ in passes]
    for _ in range(runs):
        for found, run in zip(seconds, passes, strict=True):
            start = time.process_time()
            run()
            found.append(time.process_time() - start)
    return [statistics.median(found) for found in seconds]


if __name__ == "__main__":
    main()
