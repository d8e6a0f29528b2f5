"""A preference run learns its pairs, resumes to the same weights, and hands on nothing unhealthy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pair_cases import dpo_run, pair, write_set

from imagewright.data.preferences import PreferenceError
from imagewright.methods.dpo import NotTheParentError
from imagewright.methods.dpo_run import merge_adapter, run_dpo
from imagewright.models.diffusers_adapter import load_transformer
from imagewright.tracking.job_run import NullRun
from imagewright.training.checkpoint import CheckpointError
from imagewright.training.trainer import Trainer


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_transformer(folder / "transformer").state_dict()


def test_pairs_are_learned_and_the_payload_names_its_reference(tmp_path: Path) -> None:
    settings = dpo_run(
        tmp_path,
        steps=8,
        learning_rate=1e-3,
        pairs_per_step=12,
        pairs_per_pack=12,
        check_every_steps=8,
        held_out_fraction=0.0,
        max_chosen_drift=1.0,
        max_joint_drift=1.0,
    )
    result = run_dpo(settings, tmp_path / "out", NullRun())
    assert result.metrics["dpo/trained_implicit_accuracy"] > 0.5
    assert result.counts == {"pairs": 12, "held_out_pairs": 0, "steps": 8}
    about = json.loads((tmp_path / "out" / "training.json").read_text())
    assert (about["method"], about["step"], about["parent_digest"], about["stopped"]) == ("dpo", 8, "a" * 64, "")
    before, after = weights(settings.sft), weights(tmp_path / "out")
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_run_cut_short_resumes_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dpo(dpo_run(tmp_path, work="whole"), tmp_path / "whole_out", NullRun())
    plain_step = Trainer.run_step

    def cut(trainer: Trainer, stop: bool) -> object:
        if trainer.step == 5:
            raise KeyboardInterrupt
        return plain_step(trainer, stop)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run_step", cut)
        with pytest.raises(KeyboardInterrupt):
            run_dpo(dpo_run(tmp_path, work="cut"), tmp_path / "cut_out", NullRun())
    run_dpo(dpo_run(tmp_path, work="cut"), tmp_path / "cut_out", NullRun())
    first, second = weights(tmp_path / "whole_out"), weights(tmp_path / "cut_out")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_drift_rolls_back_to_the_last_healthy_checkpoint(tmp_path: Path) -> None:
    limits = {"max_chosen_drift": 0.02, "max_joint_drift": 0.02, "check_every_steps": 1, "held_out_fraction": 0.0}
    drifting = dpo_run(tmp_path, steps=12, learning_rate=1e-3, pairs_per_step=12, pairs_per_pack=12, **limits)
    result = run_dpo(drifting, tmp_path / "out", NullRun())
    assert result.stopped and not result.skipped
    about = json.loads((tmp_path / "out" / "training.json").read_text())
    assert 0 < about["step"] < 12 and about["stopped"] == result.stopped
    assert abs(result.metrics["dpo/trained_chosen_error_drift"]) <= 0.02


def test_without_a_healthy_checkpoint_nothing_is_handed_on(tmp_path: Path) -> None:
    result = run_dpo(dpo_run(tmp_path, learning_rate=0.5), tmp_path / "out", NullRun())
    assert "no healthy checkpoint" in result.skipped
    assert not (tmp_path / "out").exists()


def test_only_ties_or_no_pairs_skip_with_the_reason(tmp_path: Path) -> None:
    settings = dpo_run(tmp_path)
    write_set(tmp_path / "ties", 2, [pair(0, margin=0.0), pair(1, margin=0.0)])
    write_set(tmp_path / "none", 0)
    for name in ("ties", "none"):
        result = run_dpo(replace(settings, preferences=tmp_path / name), tmp_path / "out", NullRun())
        assert "no pair to train on" in result.skipped


def test_an_unusable_set_is_refused(tmp_path: Path) -> None:
    settings = replace(dpo_run(tmp_path), preferences=write_set(tmp_path / "equal", 2, rejected="equal"))
    with pytest.raises(PreferenceError, match="two different images"):
        run_dpo(settings, tmp_path / "out", NullRun())


def test_pairs_of_another_models_samples_are_refused_naming_both(tmp_path: Path) -> None:
    settings = dpo_run(tmp_path)
    (settings.preferences / "audit.json").write_text(json.dumps({"sampled_from": "b" * 64}))
    with pytest.raises(NotTheParentError, match=f"parent and reference, {'a' * 64}; received '{'b' * 64}'"):
        run_dpo(settings, tmp_path / "out", NullRun())
    (settings.preferences / "audit.json").write_text(json.dumps({"sampled_from": "a" * 64}))
    assert run_dpo(dpo_run(tmp_path, steps=2), tmp_path / "out", NullRun()).counts["steps"] == 2


def test_a_policy_of_another_parent_is_not_continued(tmp_path: Path) -> None:
    run_dpo(dpo_run(tmp_path, steps=2), tmp_path / "out", NullRun())
    with pytest.raises(CheckpointError, match=f"checkpoint.parent: must be '{'b' * 64}' as configured; received '{'a' * 64}'"):
        run_dpo(replace(dpo_run(tmp_path, steps=2), sft_digest="b" * 64), tmp_path / "other", NullRun())


def test_an_adapter_run_gives_plain_weights_with_the_adapter_inside(tmp_path: Path) -> None:
    settings = dpo_run(tmp_path, weights="lora", rank=2, alpha=4.0, learning_rate=1e-3)
    run_dpo(settings, tmp_path / "out", NullRun())
    before, after = weights(settings.sft), weights(tmp_path / "out")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(".to_" in name for name in changed)


def test_merging_adds_the_scaled_product() -> None:
    state = {
        "q.base_layer.weight": torch.eye(2),
        "q.lora_A.dpo.weight": torch.tensor([[1.0, 2.0]]),
        "q.lora_B.dpo.weight": torch.tensor([[1.0], [0.0]]),
        "n.weight": torch.ones(1),
    }
    merged = merge_adapter(state, 2.0)
    assert set(merged) == {"q.weight", "n.weight"}
    torch.testing.assert_close(merged["q.weight"], torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
