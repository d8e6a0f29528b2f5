"""Does `imagewright plan`, calibrated on two shapes, predict the step time of three shapes it has not seen?

Medians of interleaved steps in CPU seconds; unseen: another width, another depth, another number of tokens. Writes
benchmarks/results/plan_calibration.txt.
"""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path

import torch

from imagewright.planning.calibration import FORMULA, StepShape, calibrate
from imagewright.planning.step_timing import CALIBRATION_SHAPES, time_steps, timed_model

TARGET = 0.2
UNSEEN = {
    "wider": StepShape(timed_model(512, 3), samples=4, image_tokens=144, text_tokens=16),
    "deeper": StepShape(timed_model(256, 10), samples=8, image_tokens=64, text_tokens=16),
    "more tokens": StepShape(timed_model(256, 4), samples=4, image_tokens=576, text_tokens=64),
}
RESULT = Path(__file__).parent / "results" / "plan_calibration.txt"


def main() -> None:
    """Measures, prints, writes the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    shapes = [*CALIBRATION_SHAPES, *UNSEEN.values()]
    seconds = time_steps(shapes, rounds)
    fitted = calibrate(list(zip(CALIBRATION_SHAPES, seconds[:2], strict=True)))
    lines = [
        f"command: python benchmarks/plan_calibration.py --rounds {rounds}",
        f"machine: {platform.machine()}, one thread, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}; no GPU was used",
        f"medians of {rounds} interleaved training steps, CPU seconds; {FORMULA}",
        f"a = {fitted.flops_per_second / 1e9:.1f} GFLOP/s, b = {fitted.elements_per_second / 1e6:.2f} M elements/s",
        f"{'shape':<14}{'hidden':>8}{'layers':>8}{'tokens':>8}{'measured':>10}{'predicted':>11}{'error':>8}",
    ]
    worst = 0.0
    for name, shape, measured in zip(["calibration", "calibration", *UNSEEN], shapes, seconds, strict=True):
        predicted = fitted.seconds(shape)
        tokens = round(shape.samples * (shape.image_tokens + shape.text_tokens))
        model = shape.model
        error = predicted / measured - 1
        lines.append(f"{name:<14}{model.hidden_size:>8}{model.num_layers:>8}{tokens:>8}{measured:>9.4f}s{predicted:>10.4f}s{error:>+8.1%}")
        worst = max(worst, abs(error) if name in UNSEEN else 0.0)
    lines.append(f"largest error on unseen shapes {worst:.1%}; target {TARGET:.0%}: {'Reached' if worst <= TARGET else 'Missed'}")
    print("\n".join(lines))
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
