"""Rates come with intervals, and every output is judged against its own prompt."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from imagewright.evaluation.enhancer_quality import measure, wilson


class Echo:
    """Answers every second message with its own prompt plus a background, the rest with nothing."""

    def __init__(self) -> None:
        self.calls = 0

    def generate(self, contents: Sequence[str], max_new_tokens: int, seconds: float) -> list[str]:
        self.calls += 1
        return ["a red circle on a white background" if "red" in content else "" for content in contents]


def test_outputs_are_judged_in_the_order_of_the_prompts() -> None:
    echo = Echo()
    found = measure(echo, ["a red circle please", "a star", "red circle"], (32, 32), 16, batch_size=2)
    assert echo.calls == 2
    assert found.broken == ((), ("empty",), ())
    assert found.pass_rate == pytest.approx(2 / 3)
    assert found.reasons() == {"empty": 1}
    metrics = found.metrics("trained")
    for name, value in (("pass_rate", 2 / 3), ("fallback_rate", 1 / 3)):
        low, told, high = (metrics[f"enhancer/trained_{name}{end}"] for end in ("_low", "", "_high"))
        assert low < told < high
        assert told == pytest.approx(value)
    assert found.gain_words == pytest.approx((3 + 5) / 2)


def test_a_second_attempt_saves_from_the_fallback_and_does_not_count_as_a_pass() -> None:
    class Completing(Echo):
        def complete(self, contents: Sequence[str], openings: Sequence[str], max_new_tokens: int, seconds: float) -> list[str]:
            return [f"{opening} on a white background" for opening in openings]

    found = measure(Completing(), ["a red circle", "a star"], (32, 32), 16, batch_size=2)
    assert (found.num_passed, found.num_fallbacks) == (1, 0)
    assert found.expansions[1].text == "a star, on a white background"
    assert found.metrics("trained")["enhancer/trained_fallback_rate"] == 0.0


@pytest.mark.parametrize(("passed", "total", "low", "high"), [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (50, 100, 0.4038, 0.5962)])
def test_intervals_are_wilsons(passed: int, total: int, low: float, high: float) -> None:
    assert wilson(passed, total) == pytest.approx((low, high), abs=1e-4)
