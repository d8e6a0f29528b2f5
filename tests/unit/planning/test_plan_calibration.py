"""Rates from two timed shapes: found again exactly, refused where they are not determined, used by the plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagewright.config import load_recipe
from imagewright.planning.calibration import Calibration, CalibrationError, StepShape, calibrate, read_calibration, write_calibration
from imagewright.planning.pretraining import plan_pretraining
from imagewright.planning.step_timing import CALIBRATION_SHAPES, time_steps, timed_model

RATES = Calibration(device="synthetic", flops_per_second=2e11, elements_per_second=5e6)


def test_two_timed_shapes_give_the_rates_they_were_made_with() -> None:
    found = calibrate([(shape, RATES.seconds(shape)) for shape in CALIBRATION_SHAPES])
    assert found.flops_per_second == pytest.approx(2e11)
    assert found.elements_per_second == pytest.approx(5e6)


def test_a_step_of_known_numbers() -> None:
    step = StepShape(timed_model(32, 2), samples=3, image_tokens=4, text_tokens=1)
    assert step.elements == 3 * 5 * 32 * 2
    linear, attention = 2 * (4 * 32**2 + 3 * 32 * 96) * 5, 4 * 32 * 25
    assert step.flops == 3 * 3 * (2 * (linear + attention) + 2 * 32 * (4 * 128 + 384))


def test_shapes_too_alike_are_refused() -> None:
    first = CALIBRATION_SHAPES[0]
    alike = StepShape(timed_model(192, 8), first.samples, first.image_tokens, first.text_tokens)
    with pytest.raises(CalibrationError, match="differ"):
        calibrate([(first, 1.0), (alike, 2.0)])


def test_times_that_would_need_a_negative_rate_are_refused() -> None:
    with pytest.raises(CalibrationError, match="contradict"):
        calibrate([(CALIBRATION_SHAPES[0], 1.0), (CALIBRATION_SHAPES[1], 0.001)])


def test_a_calibrated_plan_takes_the_measured_time_and_says_so() -> None:
    config = load_recipe("ernie_8b", [])
    rates = Calibration(device="one GPU", flops_per_second=4e14, elements_per_second=1e9)
    parts = (config.model, config.pretrain, config.training)
    plain = {line.name: line for line in plan_pretraining(*parts, gpu="h100", num_gpus=64)}
    lines = {line.name: line for line in plan_pretraining(*parts, gpu="h100", num_gpus=64, calibration=rates)}
    assert lines["days"].formula.endswith("calibrated on one GPU")
    assert float(lines["days"].value.replace(",", "")) > float(plain["days"].value.replace(",", ""))
    assert "64 GPUs" in lines["stage 0 (256 px): days"].formula


def test_a_calibration_file_is_read_back_and_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rates.json"
    write_calibration(RATES, path)
    assert read_calibration(path) == RATES
    path.write_text('{"flops_per_second": -1}')
    with pytest.raises(CalibrationError):
        read_calibration(path)


def test_steps_of_both_shapes_are_timed() -> None:
    tiny = [StepShape(timed_model(32, layers), samples=2, image_tokens=4, text_tokens=2) for layers in (1, 2)]
    assert all(seconds > 0 for seconds in time_steps(tiny, 1))
