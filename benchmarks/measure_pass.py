"""Probe, perceptual hash and quality of encoded images: our single-decode pass against a plain Pillow + imagehash loop on the same bytes.

Both read the header, decode, hash and measure blur and entropy; the peer does so at full size, as its documentation shows.
"""

from __future__ import annotations

import argparse
import io
import platform
import statistics
import time

import imagehash
import numpy as np
from PIL import Image

from imagewright.curation.measure import measure
from imagewright.data.images import DEFAULT_LIMITS


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
    print("synthetic photo-like images; ours writes 12 measures, the peer 3")
    print(f"machine: {platform.machine()}, one thread; peer: Pillow {Image.__version__} + imagehash {imagehash.__version__}")
    rng = np.random.default_rng(0)
    for side, kind in ((64, "PNG"), (512, "JPEG"), (2048, "JPEG")):
        encoded = []
        for _ in range(options.images):
            noise = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
            buffer = io.BytesIO()
            noise.save(buffer, kind)
            encoded.append(buffer.getvalue())
        ours, theirs = [], []
        for _ in range(options.runs):
            for seconds, run in ((ours, lambda data: measure(data, DEFAULT_LIMITS)), (theirs, peer)):
                start = time.process_time()
                for data in encoded:
                    run(data)
                seconds.append((time.process_time() - start) / len(encoded))
        mine, other = statistics.median(ours), statistics.median(theirs)
        print(f"{side} px {kind}: ours {mine * 1e3:.2f} ms, peer {other * 1e3:.2f} ms of CPU an image, ratio {other / mine:.2f}")


if __name__ == "__main__":
    main()
