"""Simulated annotators err at the rate they are given."""

from __future__ import annotations

from imagewright.annotation.simulated import SimulatedAnnotator, subsets

QUALITIES = {"good": 80.0, "bad": 20.0}


def test_perfect_annotator_always_prefers_the_better_image() -> None:
    annotator = SimulatedAnnotator(QUALITIES)
    assert {annotator.choose("good", "bad") for _ in range(50)} == {"good"}
    assert {annotator.choose("bad", "good") for _ in range(50)} == {"good"}


def test_flip_rate_is_what_was_asked_for() -> None:
    annotator = SimulatedAnnotator(QUALITIES, flip=0.1, seed=1)
    wrong = sum(annotator.choose("good", "bad") == "bad" for _ in range(4000)) / 4000
    assert 0.08 < wrong < 0.12


def test_one_blur_apart_is_chosen_with_odds_of_e_to_one() -> None:
    annotator = SimulatedAnnotator({"a": 10.0, "b": 0.0}, blur=10.0, seed=1)
    right = sum(annotator.choose("a", "b") == "a" for _ in range(4000)) / 4000
    assert 0.71 < right < 0.75


def test_lazy_annotator_picks_left() -> None:
    assert SimulatedAnnotator(QUALITIES, lazy=True).choose("bad", "good") == "bad"


def test_subsets_hold_every_key_once() -> None:
    keys = [str(place) for place in range(100)]
    parts = subsets(keys, 32, 0)
    assert sorted(key for part in parts for key in part) == sorted(keys)
    assert {len(part) for part in parts} == {33, 34}
    assert len(subsets(keys[:5], 32, 0)) == 1
