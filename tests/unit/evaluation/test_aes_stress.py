"""Stress tests change a picture visibly and keep its form."""

from __future__ import annotations

import numpy as np
import pytest

from imagewright.evaluation.aes_stress import STRESSES, black_and_white


@pytest.mark.parametrize("name", sorted(STRESSES))
@pytest.mark.parametrize("size", [(32, 32), (48, 96)])
def test_every_stress_changes_the_picture_and_keeps_its_form(name: str, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    before = image.copy()
    changed = STRESSES[name](image)
    assert changed.shape == image.shape and changed.dtype == np.uint8
    assert np.abs(changed.astype(int) - image).mean() > 1 and np.array_equal(image, before)


def test_black_and_white_has_no_colour_and_keeps_a_grey_picture() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert np.ptp(black_and_white(image), axis=2).max() == 0
    grey = np.full((8, 8, 3), 77, dtype=np.uint8)
    assert np.array_equal(black_and_white(grey), grey)
