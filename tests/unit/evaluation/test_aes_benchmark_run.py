"""Scorers on a benchmark: who agrees, who leans to a category, and who is fooled."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from imagewright.errors import InputError
from imagewright.evaluation.aes_benchmark import AesBenchmark, build_benchmark
from imagewright.evaluation.aes_benchmark_run import run_benchmark, score_all, write_result


class Red:
    """Scores by the share of red, which is what the ratings below are made of."""

    def score(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return np.asarray(images[..., 0].mean(axis=(1, 2)), dtype=np.float64)


class Saturated:
    """Scores by colour alone."""

    def score(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return np.asarray(np.ptp(images.astype(float), axis=3).mean(axis=(1, 2)), dtype=np.float64)


class Broken:
    def score(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return np.full(len(images), np.nan)


@pytest.fixture
def benchmark(tmp_path: Path) -> AesBenchmark:
    """20 images whose red level is their tier; those of category `wide` are four tiers too red, and of another size."""
    ratings, images = [], {}
    for number in range(20):
        tier, wide = number // 2 + 1, number % 2
        pixels = np.zeros((24, 48 if wide else 24, 3), dtype=np.uint8)
        pixels[..., 2] = 10 * tier + 40 * wide  # OpenCV writes BGR
        images[f"i{number:02d}"] = cv2.imencode(".png", pixels)[1].tobytes()
        ratings.append({"item": f"i{number:02d}", "tier": tier, "category": "wide" if wide else "plain", "origin": "simulated"})
    return build_benchmark(tmp_path / "b", ratings, images, name="reds", protocol="p")


def test_agreement_and_bias_are_told_by_category(benchmark: AesBenchmark) -> None:
    found = run_benchmark(benchmark, Red(), "red", resamples=100)
    assert [part.category for part in found.categories] == ["plain", "wide"]
    assert all(part.agreement is not None and part.agreement.srcc.value == pytest.approx(1.0) for part in found.categories)
    assert 0.3 < found.overall.srcc.value < 1.0
    plain, wide = found.categories
    assert plain.bias.high < 0 < wide.bias.low and plain.bias.value == pytest.approx(-wide.bias.value)


def test_a_scorer_that_likes_colour_is_fooled_by_saturation_and_not_by_grey(benchmark: AesBenchmark) -> None:
    stresses = {found.name: found for found in run_benchmark(benchmark, Saturated(), "s", resamples=100).stresses}
    assert stresses["over_saturate"].fools and stresses["over_saturate"].raised == 1.0
    assert not stresses["black_and_white"].fools and stresses["black_and_white"].change.high < 0


def test_the_report_holds_scorers_side_by_side_and_says_simulated(benchmark: AesBenchmark, tmp_path: Path) -> None:
    results = [run_benchmark(benchmark, scorer, name, resamples=50) for name, scorer in (("red", Red()), ("<s>", Saturated()))]
    page = write_result(tmp_path / "out", results).read_text()
    assert "&lt;s&gt;" in page and "simulated" in page and "<s>" not in page
    rows = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [row["scorer"] for row in rows] == ["red", "<s>"] and "over_saturate" in rows[1]["fooled_by"]


def test_scores_that_are_not_finite_are_refused(benchmark: AesBenchmark) -> None:
    with pytest.raises(InputError, match="20 of 20 are not"):
        run_benchmark(benchmark, Broken(), "broken")


def test_images_of_mixed_sizes_keep_their_order() -> None:
    images = [np.full((4 + number % 3, 5, 3), number, dtype=np.uint8) for number in range(9)]
    assert score_all(Red(), images).tolist() == list(map(float, range(9)))
