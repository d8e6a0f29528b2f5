"""A few real `kill -9`, seeded: the benchmark does fifty, this keeps it honest on every change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "training_kill.py"


@pytest.mark.e2e
def test_killed_runs_lose_nothing_repeat_nothing_and_end_bitwise_equal(tmp_path: Path) -> None:
    counts = tmp_path / "counts.json"
    command = [sys.executable, str(BENCHMARK), "--kills", "4", "--steps", "20", "--flips", "30", "--seed", "3", "--json", str(counts)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(counts.read_text())
    assert found["resumes"] == found["kills"] == 4
    assert found["equal_curves"] == found["equal_weights"] == found["lineages"]
    assert (found["lost"], found["repeated"]) == (0, 0)
    assert found["flips_found"] == found["flips_tried"] == 30
