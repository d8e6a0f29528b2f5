"""Quality measures: each answers to its fault and stays low on clean pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from imagewright.config.curation import FilterConfig
from imagewright.curation.quality import (
    blocking,
    blur_effect,
    border_share,
    busiest_channel,
    channel_histograms,
    entropy,
    grey_of,
    jpeg_quality,
    shrink,
    text_coverage,
)
from imagewright.data.images import read_header
from imagewright.sources.posters import Layout, draw_poster

CHECKS = np.kron(np.indices((8, 8)).sum(axis=0) % 2, np.ones((16, 16))).astype(np.uint8) * 255
NOISE = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)


def test_a_blurred_picture_scores_above_the_threshold_and_a_sharp_one_below() -> None:
    limit = FilterConfig().max_blur
    blurred = np.asarray(Image.fromarray(CHECKS).filter(ImageFilter.GaussianBlur(4)))
    sharp, soft, flat = blur_effect(np.stack([CHECKS, blurred, np.full_like(CHECKS, 9)]))
    assert sharp < limit / 2 and soft > limit and flat == 0.0


def test_blur_is_the_published_ratio_of_differences() -> None:
    step = np.zeros((1, 12, 12), np.uint8)
    step[:, :, 6:] = 90
    # Along a row one difference of 90, nine of 10 after the mean over nine pixels: 10 of 90 are left.
    assert blur_effect(step) == pytest.approx(1 / 9)


def test_the_busiest_channel_shows_edges_between_colours_of_one_brightness() -> None:
    rgb = np.full((1, 8, 8, 3), 100, np.uint8)
    rgb[0, :, 4:, 2] = 200
    assert np.array_equal(busiest_channel(rgb, channel_histograms(rgb)), rgb[..., 2])


def test_entropy_of_known_histograms() -> None:
    flat = np.zeros((8, 8, 3), np.uint8)
    half = flat.copy()
    half[:4, :, 1] = 255
    assert entropy(channel_histograms(np.stack([flat, half]))).tolist() == [0.0, 1.0]


def test_border_share_is_the_area_outside_the_content() -> None:
    grey = np.full((10, 10), 255, np.uint8)
    grey[2:7, 0:10] = 0
    assert border_share(np.stack([grey, np.zeros_like(grey)])).tolist() == [0.5, 1.0]


def test_jpeg_quality_is_read_from_the_file() -> None:
    for quality in (20, 30, 75, 95):
        buffer = io.BytesIO()
        Image.fromarray(NOISE).save(buffer, "JPEG", quality=quality)
        found = jpeg_quality(read_header(buffer.getvalue()).luminance_steps)
        assert found is not None and abs(found - quality) <= 3
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, "PNG")
    assert jpeg_quality(read_header(buffer.getvalue()).luminance_steps) is None


def test_jpeg_blocks_are_seen() -> None:
    buffer = io.BytesIO()
    smooth = Image.fromarray(NOISE[:12, :12]).resize((96, 96), Image.Resampling.BICUBIC)
    smooth.save(buffer, "JPEG", quality=5)
    coarse, clean = blocking(grey_of(np.stack([np.asarray(Image.open(buffer)), np.asarray(smooth)])))
    assert coarse > 0.5 > clean


def test_text_is_covered_and_shapes_are_not() -> None:
    sign = np.asarray(draw_poster(Layout("sign", ("GRAND OPENING", "EVERY FRIDAY"), "en", 4, True), 192))
    assert text_coverage(grey_of(sign[None]))[0] > 0.1
    assert text_coverage(CHECKS[None])[0] == 0.0


def test_a_picture_too_small_to_hold_a_line_has_no_text() -> None:
    stripes = np.tile(np.array([0, 0, 255, 255], np.uint8), (1, 48, 12))
    assert text_coverage(stripes)[0] > 0.5
    assert text_coverage(stripes[:, :47, :47])[0] == 0.0


def test_shrinking_never_enlarges() -> None:
    assert shrink(NOISE, 48).shape == (48, 48, 3)
    assert shrink(NOISE, 96) is NOISE
