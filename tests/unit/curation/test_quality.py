"""Quality measures: each answers to its fault and stays low on clean pictures."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFilter

from imagewright.config.curation import FilterConfig
from imagewright.curation.quality import blocking, blur_effect, border_share, entropy, grey_of, jpeg_quality, shrink, text_coverage
from imagewright.sources.posters import Layout, draw_poster

CHECKS = np.kron(np.indices((8, 8)).sum(axis=0) % 2, np.ones((16, 16))).astype(np.uint8) * 255
NOISE = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)


def test_a_blurred_picture_scores_above_the_threshold_and_a_sharp_one_below() -> None:
    limit = FilterConfig().max_blur
    assert blur_effect(CHECKS) < limit / 2
    blurred = np.asarray(Image.fromarray(CHECKS).filter(ImageFilter.GaussianBlur(4)))
    assert blur_effect(blurred) > limit
    assert blur_effect(np.full((32, 32), 9, np.uint8)) == 0.0


def test_entropy_of_known_histograms() -> None:
    flat = np.zeros((8, 8, 3), np.uint8)
    assert entropy(flat) == 0.0
    half = flat.copy()
    half[:4, :, 1] = 255
    assert entropy(half) == 1.0


def test_border_share_is_the_area_outside_the_content() -> None:
    grey = np.full((10, 10), 255, np.uint8)
    grey[2:7, 0:10] = 0
    assert border_share(grey) == 0.5
    assert border_share(np.zeros((4, 4), np.uint8)) == 1.0


def test_jpeg_quality_is_read_from_the_file() -> None:
    for quality in (20, 30, 75, 95):
        buffer = io.BytesIO()
        Image.fromarray(NOISE).save(buffer, "JPEG", quality=quality)
        with Image.open(buffer) as image:
            found = jpeg_quality(image)
        assert found is not None and abs(found - quality) <= 3
    assert jpeg_quality(Image.fromarray(NOISE)) is None


def test_jpeg_blocks_are_seen() -> None:
    buffer = io.BytesIO()
    smooth = Image.fromarray(NOISE[:12, :12]).resize((96, 96), Image.Resampling.BICUBIC)
    smooth.save(buffer, "JPEG", quality=5)
    assert blocking(grey_of(np.asarray(Image.open(buffer)))) > 0.5 > blocking(grey_of(np.asarray(smooth)))


def test_text_is_covered_and_shapes_are_not() -> None:
    sign = np.asarray(draw_poster(Layout("sign", ("GRAND OPENING", "EVERY FRIDAY"), "en", 4, True), 192))
    assert text_coverage(grey_of(sign)) > 0.1
    assert text_coverage(CHECKS) == 0.0


def test_shrinking_never_enlarges() -> None:
    assert shrink(NOISE, 48).shape == (48, 48, 3)
    assert shrink(NOISE, 96) is NOISE
