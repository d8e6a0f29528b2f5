"""The learning rate of every step, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from imagewright.training.schedule import Segment, learning_rate


def test_warm_up_moves_from_the_first_step_and_reaches_the_peak_at_its_end() -> None:
    segment = Segment(steps=10, peak=1.0, warmup_steps=4)
    assert [segment.at(step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_cosine_is_half_way_down_in_the_middle_and_ends_at_the_final_ratio() -> None:
    segment = Segment(steps=10, peak=2.0, decay="cosine", final_ratio=0.1)
    assert segment.at(0) == 2.0
    assert segment.at(5) == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))
    assert segment.at(10) == pytest.approx(0.2)


def test_linear_falls_in_equal_parts() -> None:
    segment = Segment(steps=6, peak=1.0, warmup_steps=2, decay="linear")
    assert [segment.at(step) for step in range(2, 7)] == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_stages_follow_one_another_and_the_last_rate_holds() -> None:
    rate = learning_rate([Segment(steps=3, peak=1.0), Segment(steps=2, peak=0.1, warmup_steps=2)])
    assert [rate(step) for step in range(7)] == [1.0, 1.0, 1.0, 0.05, 0.1, 0.1, 0.1]
