"""Fine-tuning and preference training on two processes do what one does, also from the store's copy; the first process writes the model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import distributed_methods
import pytest
import torch

from imagewright.methods.dpo_run import run_dpo
from imagewright.methods.sft import best_weights, run_sft
from imagewright.models.diffusers_adapter import load_transformer
from imagewright.tracking.job_run import NullRun


def weights(folder: Path) -> torch.Tensor:
    return torch.cat([tensor.flatten().double() for tensor in load_transformer(best_weights(folder)).state_dict().values()])


def difference(first: Path, second: Path, start: Path) -> float:
    """Distance of two results as a share of how far training went."""
    one, other, before = weights(first), weights(second), weights(start)
    return float((one - other).norm() / (one - before).norm())


@pytest.mark.e2e
def test_two_processes_train_what_one_does_and_the_first_writes_it(tmp_path: Path) -> None:
    aligned, tuned = distributed_methods.preferences(tmp_path, "alone"), distributed_methods.domains(tmp_path, "alone")
    run_dpo(aligned, tmp_path / "alone_out" / "dpo", NullRun())
    run_sft(tuned, tmp_path / "alone_out" / "sft", NullRun())
    worker = Path(distributed_methods.__file__)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(worker), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=worker.parent, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    # Sums over processes round differently, and Adam makes that visible where a gradient is near zero.
    assert difference(tmp_path / "alone_out" / "dpo", tmp_path / "output-0" / "dpo", aligned.sft) < 0.02
    assert [path.name for path in (tmp_path / "together" / "dpo" / "checkpoints").glob("step-*")] == ["step-00000006"]
    assert torch.equal(weights(tmp_path / "output-0" / "again"), weights(tmp_path / "output-0" / "dpo"))
    assert difference(tmp_path / "alone_out" / "sft", tmp_path / "output-0" / "sft", tuned.base) < 0.02
    assert not (tmp_path / "output-1").exists()
    told = json.loads((tmp_path / "output-0" / "sft" / "experts" / "experts.json").read_text())
    assert set(told) == {"c0", "c1"}
    assert all((tmp_path / "output-0" / "sft" / "experts" / name).is_dir() for name in told)
