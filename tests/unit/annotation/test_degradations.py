"""Damage is graded: more severity is further from the clean picture, and none is none."""

from __future__ import annotations

import numpy as np
import pytest
from fixtures.curated_scenes import write_curated

from imagewright.annotation.degradations import DAMAGES, degrade, draw_damages
from imagewright.config.aes import DAMAGE_KINDS
from imagewright.data.pixels import load_pixels


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    folder = write_curated(tmp_path_factory.mktemp("curated"), 40)
    return load_pixels(folder, side_px=32, splits=("train",), limit=12, seed=0).images


def test_every_configured_kind_exists() -> None:
    assert set(DAMAGE_KINDS) == set(DAMAGES)


@pytest.mark.parametrize("kind", DAMAGE_KINDS)
def test_more_severity_is_further_from_the_clean_picture(kind: str, pictures: np.ndarray) -> None:
    errors = []
    for severity in (0.1, 0.5, 1.0):
        damaged = [degrade(image, [(kind, severity)], np.random.default_rng(7)).image for image in pictures]
        errors.append(float(np.mean(np.abs(np.stack(damaged).astype(float) - pictures))))
    assert errors[0] < errors[1] < errors[2] and errors[2] > 3


def test_quality_is_the_product_of_what_is_left(pictures: np.ndarray) -> None:
    damaged = degrade(pictures[0], [("blur", 0.5), ("noise", 0.2)], np.random.default_rng(0))
    assert damaged.quality == pytest.approx(40.0) and damaged.kinds == ("blur", "noise")
    clean = degrade(pictures[0], [], np.random.default_rng(0))
    assert clean.quality == 100.0 and np.array_equal(clean.image, pictures[0])


def test_drawn_damages_spread_quality_evenly() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_damages(DAMAGE_KINDS, rng, clean_share=0.0, max_kinds=2) for _ in range(2000)]
    qualities = np.array([np.prod([1 - severity for _, severity in damages]) for damages in drawn])
    assert np.histogram(qualities, bins=4, range=(0.05, 0.97))[0].min() > 400
    assert draw_damages(DAMAGE_KINDS, rng, clean_share=0.999999, max_kinds=1) == []
