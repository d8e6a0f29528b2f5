"""ZeRO on two CPU processes does what one process with the whole network does: gradients, weights, averages, resume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

WORKER = Path(__file__).with_name("distributed_worker.py")
STEPS = 4


@dataclass(frozen=True)
class Trained:
    gradients: dict[str, torch.Tensor]
    weights: dict[str, torch.Tensor]
    average: dict[str, torch.Tensor]
    losses: list[float]
    resumed_from: int


def train(
    folder: Path, out: Path, *, processes: int = 1, engine: str = "torch", stage: int = 1, cuts: str = "32", steps: int = STEPS
) -> Trained:
    """Runs the worker under torchrun and reads what it wrote."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), str(WORKER)]
    command += [
        "--folder",
        str(folder),
        "--out",
        str(out),
        "--engine",
        engine,
        "--zero-stage",
        str(stage),
        "--cuts",
        cuts,
        "--steps",
        str(steps),
    ]
    # DeepSpeed compiles one op at its first start: it looks for ninja on PATH.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{Path(torch.__file__).parents[4] / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(command, env=environment, cwd=WORKER.parent, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads((out / "report.json").read_text())
    parts = (load_file(out / f"{name}.safetensors") for name in ("gradients", "weights", "average"))
    return Trained(*parts, losses=report["losses"], resumed_from=report["resumed_from"])


def assert_equal(first: Trained, second: Trained) -> None:
    scale = max(float(tensor.abs().max()) for tensor in first.gradients.values())
    for name, gradient in first.gradients.items():
        assert torch.allclose(gradient, second.gradients[name], rtol=1e-5, atol=1e-5 * scale), name
    for part in ("weights", "average"):
        for name, tensor in getattr(first, part).items():
            # Adam divides by the root of a squared gradient: elements near zero turn last-digit differences into visible ones.
            assert torch.allclose(tensor, getattr(second, part)[name], rtol=1e-4, atol=1e-5), f"{part} {name}"
    assert second.losses == pytest.approx(first.losses, rel=1e-5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """One process, one pack."""
    folder = tmp_path_factory.mktemp("whole")
    return train(folder / "run", folder / "out")


@pytest.mark.e2e
def test_two_torch_processes_equal_one(tmp_path: Path, whole: Trained) -> None:
    assert_equal(whole, train(tmp_path / "run", tmp_path / "out", processes=2, cuts="20,12"))


@pytest.mark.e2e
@pytest.mark.compiler
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_zero_on_two_processes_with_accumulation_equals_one_process(tmp_path: Path, whole: Trained, stage: int) -> None:
    sharded = train(tmp_path / "run", tmp_path / "out", processes=2, engine="deepspeed", stage=stage, cuts="5,11,9,7")
    assert_equal(whole, sharded)


@pytest.mark.e2e
@pytest.mark.compiler
def test_a_zero_2_checkpoint_continues_under_zero_3_and_in_one_plain_process(tmp_path: Path, whole: Trained) -> None:
    run = tmp_path / "run"
    train(run, tmp_path / "first", processes=2, engine="deepspeed", stage=2, cuts="16,16", steps=2)
    third = train(run, tmp_path / "second", processes=2, engine="deepspeed", stage=3, cuts="16,16", steps=3)
    last = train(run, tmp_path / "third", steps=STEPS)
    assert (third.resumed_from, last.resumed_from) == (2, 3)
    for name, tensor in whole.weights.items():
        assert torch.allclose(tensor, last.weights[name], rtol=1e-4, atol=1e-5), name
    for name, tensor in whole.average.items():
        assert torch.allclose(tensor, last.average[name], rtol=1e-4, atol=1e-5), name
