"""Typeset pictures: captions transcribe exactly what is set, in both languages, and the ink stays inside."""

from __future__ import annotations

import numpy as np

from imagewright.config.data import PostersConfig
from imagewright.data.images import decode_rgb
from imagewright.sources.posters import KINDS, PALETTES, Layout, draw_poster, poster_samples


def test_the_visible_text_is_in_the_long_captions() -> None:
    for sample in poster_samples(PostersConfig(num_samples=30, size_px=64), seed=1):
        lines = sample.visible_text.split("\n")
        for caption in sample.captions:
            if caption.form == "long":
                assert all(f"“{line}”" in caption.text for line in lines)


def test_every_kind_has_its_shape_and_ink() -> None:
    for kind, (across, down) in KINDS.items():
        for language, line in (("en", "NEW MENU"), ("zh", "今日特价")):
            image = draw_poster(Layout(kind, (line,), language, 0, True), 96)
            assert abs(image.width / image.height - across / down) < 0.03
            ink = np.abs(np.asarray(image, dtype=int) - PALETTES[0][1]).max(axis=2) < 60
            assert ink[image.height // 4 : image.height * 3 // 4].mean() > 0.03
            assert not ink[10 : image.height - 10, 0].any()


def test_the_same_seed_gives_the_same_pictures() -> None:
    section = PostersConfig(num_samples=3)
    assert list(poster_samples(section, 4)) == list(poster_samples(section, 4))
    assert decode_rgb(next(poster_samples(section, 4)).image).max() > 0


def test_palettes_can_be_read() -> None:
    def luminance(colour: tuple[int, int, int]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for background, ink, _, _ in PALETTES:
        bright, dark = sorted((luminance(background), luminance(ink)), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) >= 4.5
