"""What counts as an ill student: at the border still healthy, beyond it not, and NaN never."""

from __future__ import annotations

import pytest

from imagewright.config.distill import HealthConfig
from imagewright.methods.distill_health import faults

CONFIG = HealthConfig(min_ratio=0.5, max_ratio=2.0, min_diversity=0.3, max_critic_ratio=100.0)
HEALTHY = {"contrast": 1.0, "saturation": 1.0, "detail": 1.0, "diversity": 1.0}


@pytest.mark.parametrize(
    ("name", "value", "ill"),
    [
        ("contrast", 0.5, False),
        ("contrast", 0.499, True),
        ("saturation", 2.0, False),
        ("saturation", 2.001, True),
        ("detail", 2.001, True),
        ("diversity", 0.3, False),
        ("diversity", 0.299, True),
        ("diversity", 9.0, False),
        ("contrast", float("nan"), True),
        ("diversity", float("nan"), True),
    ],
)
def test_each_measure_has_its_band(name: str, value: float, ill: bool) -> None:
    found = faults({**HEALTHY, name: value}, 1.0, CONFIG)
    assert bool(found) is ill
    assert all(name in fault for fault in found)


@pytest.mark.parametrize(("ratio", "ill"), [(100.0, False), (100.1, True), (float("nan"), True)])
def test_a_critic_that_lost_the_student_is_an_alarm(ratio: float, ill: bool) -> None:
    assert bool(faults(HEALTHY, ratio, CONFIG)) is ill
