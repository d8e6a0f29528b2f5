"""A benchmark is built from votes, says where they come from, and refuses what orders nothing."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from imagewright.evaluation.aes_benchmark import BenchmarkError, build_benchmark, choose, pool_ratings, read_benchmark


def png(value: int, side: int = 16) -> bytes:
    return cv2.imencode(".png", np.full((side, side, 3), value, dtype=np.uint8))[1].tobytes()


def rating(item: str, tier: float, category: str = "photo", origin: str = "human") -> dict[str, object]:
    return {"item": item, "tier": tier, "category": category, "annotator": "a", "origin": origin}


def test_built_and_read_back_with_card_and_pixels(tmp_path: Path) -> None:
    ratings = [rating("a", 1), rating("b", 4), rating("b", 6), rating("c", 10, "anime")]
    images = {key: png(value) for key, value in (("a", 10), ("b", 20), ("c", 30))}
    made = build_benchmark(tmp_path / "b", ratings, images, name="Ours", protocol="Swiss.", agreement={"agreement": 0.8})
    assert made == read_benchmark(tmp_path / "b")
    assert [(row.key, row.tier, row.num_ratings, row.category) for row in made.rows] == [
        ("a", 1.0, 1, "photo"), ("b", 5.0, 2, "photo"), ("c", 10.0, 1, "anime"),
    ]  # fmt: skip
    assert made.image("c")[0, 0].tolist() == [30, 30, 30]
    card = (tmp_path / "b" / "README.md").read_text()
    assert "Swiss." in card and "| anime | 1 | 33.3% | 10.00 |" in card and "simulated" not in card and '"agreement": 0.8' in card


def test_one_simulated_rating_makes_the_benchmark_simulated(tmp_path: Path) -> None:
    ratings = [rating("a", 1), rating("b", 4), rating("c", 10, origin="simulated")]
    made = build_benchmark(tmp_path / "b", ratings, {key: png(9) for key in "abc"}, name="Ours", protocol="p")
    assert made.about.origin == "simulated" and "**The ratings are simulated**" in (tmp_path / "b" / "README.md").read_text()


def test_a_category_is_thinned_evenly_over_its_tiers() -> None:
    rows, _ = pool_ratings([rating(f"i{tier}", tier) for tier in range(1, 11)])
    assert [row.tier for row in sorted(choose(rows, 3), key=lambda row: row.tier)] == [1.0, 5.0, 10.0]


@pytest.mark.parametrize(
    ("ratings", "said"),
    [
        ([rating("a", 5), rating("b", 5), rating("c", 5)], "must not all be the same"),
        ([rating("a", 1), rating("b", 2)], "at least 3 rated images"),
        ([rating("a", float("nan")), rating("b", 2), rating("c", 3)], r"ratings\[0\].tier.*1..10"),
        ([rating("a", 0.99), rating("b", 2), rating("c", 10.01)], r"ratings\[2\]"),
        ([rating("../a", 1), rating("b", 2), rating("c", 3)], "plain file name"),
        ([rating("a", 1, origin=""), rating("b", 2), rating("c", 3)], "human or simulated"),
        ([rating("a", 1), rating("b", 2), rating("gone", 3)], "1 are missing"),
    ],
)
def test_ratings_that_cannot_be_used_are_named(tmp_path: Path, ratings: list[dict[str, object]], said: str) -> None:
    with pytest.raises(BenchmarkError, match=said):
        build_benchmark(tmp_path / "b", ratings, {key: png(9) for key in "abc"}, name="n", protocol="p")
    assert not (tmp_path / "b").exists()


def test_what_is_no_image_or_no_benchmark_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="must be images"):
        build_benchmark(tmp_path / "b", [rating(k, n) for n, k in enumerate("abc", 1)], dict.fromkeys("abc", b"x"), name="n", protocol="p")
    with pytest.raises(BenchmarkError, match="is no aesthetic benchmark"):
        read_benchmark(tmp_path / "none")
