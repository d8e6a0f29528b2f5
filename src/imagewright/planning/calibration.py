"""Turns timed training steps of two shapes into the two rates of a device, and the rates into the time of any other shape.

A step is arithmetic that the device does at one rate, and passes over activations (norms, residuals, modulation) that it moves at another:
seconds = FLOP / a + elements / b. Source of the split: Williams et al., Roofline, CACM 52(4), 2009.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from imagewright.config.base import Section
from imagewright.config.model import ModelConfig
from imagewright.errors import InputError, Problem
from imagewright.planning.flops import TRAINING_FACTOR, forward_flops

FORMULA = "FLOP / a + tokens x hidden x layers / b, a and b calibrated on two shapes"
MAX_FILE_BYTES = 1 << 16


class CalibrationError(InputError):
    """Timings that determine no rates, or a calibration file that cannot be read."""


@dataclass(frozen=True)
class StepShape:
    """One training step: `samples` samples of `image_tokens` and `text_tokens` each in one pack."""

    model: ModelConfig
    samples: float
    image_tokens: int
    text_tokens: int

    @property
    def flops(self) -> float:
        """Forward and backward, without recomputation."""
        return TRAINING_FACTOR * self.samples * forward_flops(self.model, self.image_tokens, self.text_tokens)

    @property
    def elements(self) -> float:
        """Activations of one residual stream through all blocks: tokens x hidden x layers."""
        return self.samples * (self.image_tokens + self.text_tokens) * self.model.hidden_size * self.model.num_layers


class Calibration(Section):
    """The rates of one device."""

    device: str = ""
    """What was measured."""
    flops_per_second: float = Field(gt=0.0)
    """Rate a of matrix products."""
    elements_per_second: float = Field(gt=0.0)
    """Rate b of passes over the residual stream, all of a block's counted as one."""

    def seconds(self, step: StepShape) -> float:
        """Predicted time of one step."""
        return step.flops / self.flops_per_second + step.elements / self.elements_per_second


def calibrate(timed: Sequence[tuple[StepShape, float]], device: str = "") -> Calibration:
    """Rates that explain exactly two timed steps (shape, seconds).

    Raises CalibrationError when the shapes differ too little for two rates, or the times contradict each other (a negative rate).
    """
    if len(timed) != 2 or any(seconds <= 0 for _, seconds in timed):
        raise CalibrationError(Problem("calibration", "needs two shapes with positive times", [seconds for _, seconds in timed]))
    (first, first_seconds), (second, second_seconds) = timed
    determinant = first.flops * second.elements - second.flops * first.elements
    ratio = first.flops / first.elements / (second.flops / second.elements)
    if not max(ratio, 1 / ratio) >= 1.2:
        raise CalibrationError(
            Problem("calibration", "shapes must differ by 1.2 or more in FLOP per element", round(ratio, 3), "take shapes of unequal width")
        )
    per_flop = (first_seconds * second.elements - second_seconds * first.elements) / determinant
    per_element = (first.flops * second_seconds - second.flops * first_seconds) / determinant
    if per_flop <= 0 or per_element <= 0:
        raise CalibrationError(
            Problem("calibration", "times contradict each other", [first_seconds, second_seconds], "measure again on a quiet machine")
        )
    return Calibration(device=device, flops_per_second=1 / per_flop, elements_per_second=1 / per_element)


def write_calibration(calibration: Calibration, path: Path) -> None:
    """Writes the rates as JSON."""
    path.write_text(calibration.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_calibration(path: Path) -> Calibration:
    """Reads a calibration file. Raises CalibrationError when it is none."""
    try:
        with path.open("rb") as file:
            return Calibration.model_validate_json(file.read(MAX_FILE_BYTES))
    except (OSError, ValidationError) as error:
        fix = "write one with imagewright plan calibrate"
        raise CalibrationError(Problem("--calibration", "is no calibration file", str(path), fix)) from error
