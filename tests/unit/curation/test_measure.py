"""The measure stage: what a picture is measured as does not depend on what it is measured with, and nothing stops it."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from imagewright.config.data import PostersConfig, ScenesConfig
from imagewright.curation.measure import STACK_BYTES, MeasureStage, measure_all
from imagewright.data.images import DEFAULT_LIMITS, BadImage
from imagewright.sources.posters import poster_samples
from imagewright.sources.scenes import scene_samples

RNG = np.random.default_rng(5)


def noise(width: int, height: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    coarse = Image.fromarray(RNG.integers(0, 256, (max(1, height // 3), max(1, width // 3), 3), dtype=np.uint8))
    coarse.resize((width, height)).save(buffer, kind)
    return buffer.getvalue()


def test_every_column_is_bit_equal_alone_and_in_a_stack() -> None:
    encoded = [sample.image for sample in scene_samples(ScenesConfig(num_samples=60), 0)]
    encoded += [sample.image for sample in poster_samples(PostersConfig(num_samples=6, size_px=96), 0)]
    encoded += [noise(*size) for size in [(64, 64)] * 12 + [(48, 48)] * 3 + [(33, 25)] * 3]
    encoded += [noise(400, 300, "JPEG") for _ in range(3)]
    assert 2 * STACK_BYTES < 60 * 32 * 32 * 3, "scenes fill several stacks"
    together = measure_all(encoded, DEFAULT_LIMITS)
    for data, found in zip(encoded, together, strict=True):
        (alone,) = measure_all([data], DEFAULT_LIMITS)
        assert sorted(alone) == sorted(found) == sorted(MeasureStage.outputs)
        for name, value in alone.items():
            assert value == found[name] if name != "embedding" else np.array_equal(value, found[name]), name


def test_odd_shapes_have_measures_and_bad_files_their_reason_in_their_place() -> None:
    shapes = [(1, 1), (1, 50), (50, 1), (2, 2), (3, 700), (4000, 2), (23, 24)]
    encoded: list[bytes | BadImage] = [b"", *(noise(*shape) for shape in shapes), b"junk", BadImage("damaged"), noise(30, 30)[:60]]
    measured = measure_all(encoded, DEFAULT_LIMITS)
    assert [found["bad_image"] for found in measured] == ["empty", *[""] * len(shapes), "unknown_format", "damaged", "broken"]
    assert [(found["measured_width"], found["measured_height"]) for found in measured[1:-3]] == shapes
    assert all(
        np.isfinite(value) for found in measured[1:-3] for name, value in found.items() if name.startswith("score_") and value is not None
    )
