"""A server is ready only with the model that was exported: flat pictures and other weights are refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagewright.config.serving import ServingConfig
from imagewright.serving.bundle import BundleError
from imagewright.serving.champion import Champion, ModelVersion
from imagewright.serving.golden import GOLDEN_FILE, MIN_PSNR_DB, check_golden, psnr_db


def test_the_exported_bundle_loads_and_one_with_other_weights_is_refused(
    bundle_folder: Path, other_bundle_folder: Path, tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(bundle_folder, mixed)
    shutil.rmtree(mixed / "transformer")
    shutil.copytree(other_bundle_folder / "transformer", mixed / "transformer")
    version = [ModelVersion("turbo@1", "1" * 64, mixed)]
    champion = Champion(lambda: version[0], ServingConfig(max_queue=4))
    assert not champion.refresh()
    assert "golden image" in champion.last_error
    version[0] = ModelVersion("turbo@2", "2" * 64, bundle_folder)
    assert champion.refresh()
    assert champion.drain(30)


def test_a_flat_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="flat"):
        check_golden(tmp_path, np.full((8, 8, 3), 7, dtype=np.uint8))


def test_a_picture_just_near_enough_passes_and_one_just_too_far_does_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    golden = rng.integers(40, 200, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(golden).save(tmp_path / GOLDEN_FILE)
    near, far = golden + np.uint8(14), golden + np.uint8(15)
    assert psnr_db(near, golden) > MIN_PSNR_DB > psnr_db(far, golden)
    check_golden(tmp_path, near)
    with pytest.raises(BundleError, match="golden image"):
        check_golden(tmp_path, far)


def test_psnr_is_that_of_the_formula() -> None:
    black, grey = np.zeros((2, 2, 3), dtype=np.uint8), np.full((2, 2, 3), 51, dtype=np.uint8)
    assert psnr_db(black, grey) == pytest.approx(20 * np.log10(255 / 51))
    assert psnr_db(grey, grey) == float("inf")
