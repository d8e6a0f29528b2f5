"""What callers of a scorer rely on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from imagewright.config.aes import AesConfig
from imagewright.errors import InputError
from imagewright.models.aesthetic import AestheticScorer, Calibration, build_network, fit_calibration, load_scorer, save_scorer

TINY = AesConfig(channels=(4, 8), side_px=16, members=2)


def scorer(config: AesConfig = TINY) -> AestheticScorer:
    torch.manual_seed(0)
    return AestheticScorer(build_network(config), config, Calibration(), "simulated")


def pictures(count: int, side: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_scores_are_one_per_image_between_0_and_100() -> None:
    scores, spread = scorer().score_with_disagreement(pictures(5, 40), batch_size=2)
    assert scores.shape == spread.shape == (5,)
    assert ((scores >= 0) & (scores <= 100)).all() and (spread > 0).all()


def test_batching_does_not_change_scores() -> None:
    one = scorer()
    assert np.allclose(one.score(pictures(7), batch_size=3), one.score(pictures(7), batch_size=7), atol=1e-4)


def test_no_images_give_no_scores() -> None:
    assert scorer().score(pictures(0)).shape == (0,)


@pytest.mark.parametrize("bad", [np.zeros((2, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8), np.zeros((2, 8, 8, 4), np.uint8)])
def test_other_arrays_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(InputError, match="RGB uint8"):
        scorer().score(bad)


def test_saved_scorer_gives_the_same_scores(tmp_path: Path) -> None:
    first = AestheticScorer(scorer().network, TINY, Calibration(2.0, -30.0), "simulated")
    save_scorer(first, tmp_path / "aes")
    again = load_scorer(tmp_path)
    assert np.array_equal(first.score(pictures(4)), again.score(pictures(4)))
    assert again.origin == "simulated"
    assert json.loads((tmp_path / "aes" / "config.json").read_text())["origin"] == "simulated"


def test_weights_that_are_not_a_number_are_noticed() -> None:
    broken = scorer()
    with torch.no_grad():
        next(broken.network.parameters()).fill_(float("nan"))
    with pytest.raises(InputError, match="finite scores"):
        broken.score(pictures(2))


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no aesthetic model"):
        load_scorer(tmp_path)


def test_calibration_brings_scores_to_the_scale_of_ratings() -> None:
    fitted = fit_calibration(np.array([40.0, 50.0, 60.0]), np.array([10.0, 50.0, 90.0]))
    assert (fitted.slope, fitted.intercept) == pytest.approx((4.0, -150.0))
    assert fitted(np.array([30.0, 45.0, 80.0])).tolist() == pytest.approx([0.0, 30.0, 100.0])


def test_calibration_never_turns_the_order_round() -> None:
    assert fit_calibration(np.array([1.0, 2.0]), np.array([9.0, 3.0])) == Calibration()
    assert fit_calibration(np.array([5.0, 5.0]), np.array([9.0, 3.0])) == Calibration()


def test_packaged_image_features_can_be_the_backbone() -> None:
    config = AesConfig(backbone="efficientnet_lite3", members=1, side_px=64)
    features = scorer(config)
    scores = features.score(pictures(2, 64))
    assert scores.shape == (2,) and np.array_equal(scores, features.score(pictures(2, 64)))


def test_filters_can_be_the_backbone_and_what_was_seen_before_scores_the_same(tmp_path: Path) -> None:
    first = scorer(AesConfig(backbone="filters", members=2, side_px=16))
    alone = np.concatenate([first.score(pictures(4, 16)[place : place + 1]) for place in range(4)])
    assert np.allclose(first.score(pictures(4, 16)), alone, atol=1e-4)
    assert (first.score_with_disagreement(pictures(4, 16))[1] > 0).all()
    save_scorer(first, tmp_path / "aes")
    assert np.allclose(load_scorer(tmp_path).score(pictures(4, 16)), alone, atol=1e-4)
