"""A run leaves what the bundle needs, and says how the trained model compares with the untrained one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from imagewright.config.enhancer import EnhancerConfig, PolicyConfig
from imagewright.config.training import TrainingConfig
from imagewright.curation.enhancer_pairs import PairsError
from imagewright.data.manifest import ManifestRow, write_manifest
from imagewright.evaluation.suites import SuitePrompt
from imagewright.methods.enhancer_run import EnhancerRun, run_enhancer
from imagewright.models.language_model import load_saved
from imagewright.sources.scene_captions import captions_of
from imagewright.sources.scene_spec import TASKS
from imagewright.sources.scenes import propose
from imagewright.tracking.job_run import NullRun

CONFIG = EnhancerConfig(steps=3, warmup_steps=1, batch_size=4, max_new_tokens=128, validation_prompts=2)


def settings(folder: Path, config: EnhancerConfig = CONFIG) -> EnhancerRun:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(40):
        spec = propose(rng, TASKS[number % 6], held_out=False)
        split = "validation" if number % 4 == 0 else "train"
        rows.append(ManifestRow(f"s{number}", "0", 0, 1, "0" * 64, captions=captions_of(spec, rng), scene=spec.to_json(), split=split))
    write_manifest(folder / "curated" / "manifest.parquet", rows)
    (folder / "out").mkdir()
    return EnhancerRun(config, TrainingConfig(), folder / "curated", folder / "work", 0)


def test_a_run_writes_the_model_its_pairs_and_the_comparison(tmp_path: Path) -> None:
    metrics, counts = run_enhancer(settings(tmp_path), tmp_path / "out", NullRun())
    assert counts["prompts"] == 2
    assert counts["pairs"] > 0
    told = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert told["metrics"] == metrics
    for name in ("untrained", "trained"):
        low, rate, high = (metrics[f"enhancer/{name}_pass_rate{end}"] for end in ("_low", "", "_high"))
        assert low <= rate <= high
        assert metrics[f"enhancer/{name}_fallback_rate"] <= 1 - rate + 1e-9
        assert set(told[name]["examples"][0]) == {"prompt", "first", "first_broken", "second", "second_broken"}
    assert (tmp_path / "out" / "pairs" / "README.md").is_file()
    assert load_saved(tmp_path / "out").tokenizer.model_max_length == 128


def test_the_policy_step_changes_the_model_and_asks_the_judge(tmp_path: Path) -> None:
    policy = PolicyConfig(steps=1, prompts_per_step=2, group_size=2, max_new_tokens=8, learning_rate=1e-2, measured_prompts=1)
    asked: list[str] = []

    def judge(prompts: Sequence[SuitePrompt], texts: Sequence[str]) -> list[dict[str, float]]:
        asked.extend(texts)
        return [{"judged": float(number % 2)} for number in range(len(texts))]

    weights = []
    for name, steps in (("plain", 0), ("rewarded", 1)):
        (tmp_path / name).mkdir()
        config = CONFIG.model_copy(update={"policy": policy.model_copy(update={"steps": steps})})
        made = replace(settings(tmp_path / name, config), judge=judge)
        metrics, _ = run_enhancer(made, tmp_path / name / "out", NullRun())
        weights.append(load_saved(tmp_path / name / "out").model.state_dict())
    sampled, compared = 4, len(asked) - 4
    assert sampled == policy.prompts_per_step * policy.group_size
    assert compared > 0
    assert compared % 2 == 0, "the same prompts before and after"
    low, gain, high = (metrics[f"enhancer/policy_gain{end}"] for end in ("_low", "", "_high"))
    assert low <= gain <= high
    assert gain == pytest.approx(metrics["enhancer/policy_after"] - metrics["enhancer/policy_before"])
    assert any(not torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_captions_that_are_all_too_long_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PairsError, match="no pair short enough"):
        run_enhancer(settings(tmp_path, CONFIG.model_copy(update={"max_new_tokens": 8})), tmp_path / "out", NullRun())
