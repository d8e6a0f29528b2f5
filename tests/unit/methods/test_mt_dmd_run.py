"""The Turbo stage from payload to payload: what it writes, what it refuses, and that a kill changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from distill_cases import CONFIG, distillation, write_payload
from pretrain_cases import MODEL, write_latents
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from imagewright.config.distill import RoutingConfig, RoutingRule
from imagewright.data.latents import EncodedCaption, LatentsContract, LatentsError, LatentsWriter
from imagewright.data.prompt_loader import PromptError
from imagewright.methods.committee import CommitteeError
from imagewright.methods.mt_dmd_run import run_distillation
from imagewright.methods.routing import RoutingError
from imagewright.models.adapters import AdapterError
from imagewright.models.diffusers_adapter import load_transformer, save_transformer
from imagewright.models.dit import ErnieImageDiT
from imagewright.tracking.job_run import NullRun


class Recorder:
    """A run that keeps its events, and may die at a metric."""

    def __init__(self, die_at: int = 0) -> None:
        self.events: list[str] = []
        self.null, self.die_at = NullRun(), die_at
        self.seen = 0

    def log_event(self, name: str, step: int, detail: str) -> None:
        self.events.append(name)

    def log_metrics(self, metrics: dict[str, Any], step: int) -> None:
        self.null.log_metrics(metrics, step)
        if any(name.startswith("mt_dmd/raw") for name in metrics):
            self.seen += 1
            if self.seen == self.die_at:
                raise KeyboardInterrupt

    def __getattr__(self, name: str) -> Any:
        return getattr(self.null, name)


def weights(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "transformer" / "diffusion_pytorch_model.safetensors")


@pytest.mark.parametrize("fake", ["full", "lora"])
def test_a_run_writes_a_student_who_taught_it_and_counts_five_to_one(tmp_path: Path, fake: str) -> None:
    matching = CONFIG.matching.model_copy(update={"fake": fake, "critic_updates_per_student": 5, "rounds": 2})
    settings = distillation(tmp_path, distill=CONFIG.model_copy(update={"matching": matching}))
    metrics, counts = run_distillation(settings, tmp_path / "out", NullRun())
    assert (counts["student_updates"], counts["critic_updates"]) == (2, 10)
    assert counts["teachers"] == 3  # base and two experts
    told = json.loads((tmp_path / "out" / "routing.json").read_text())
    assert set(told["taught"]) == {"c0", "c1"}
    for domain, objectives in told["taught"].items():
        assert {name for bands in objectives.values() for row in bands.values() for name in row} == {domain}
    assert json.loads((tmp_path / "out" / "training.json").read_text())["num_steps"] == 3
    load_transformer(tmp_path / "out" / "transformer")
    before = load_file(tmp_path / "model" / "transformer" / "diffusion_pytorch_model.safetensors")
    assert any(not torch.equal(tensor, before[name]) for name, tensor in weights(tmp_path / "out").items())
    assert metrics["mt_dmd/raw_contrast"] > 0
    assert (tmp_path / "out" / "ema").exists() == (metrics["mt_dmd/ema_energy_distance"] < metrics["mt_dmd/raw_energy_distance"])


@pytest.mark.parametrize("fake", ["full", "lora"])
def test_a_killed_run_ends_bitwise_equal(tmp_path: Path, fake: str) -> None:
    distill = CONFIG.model_copy(update={"matching": CONFIG.matching.model_copy(update={"fake": fake})})
    run_distillation(distillation(tmp_path, distill=distill), tmp_path / "whole", NullRun())
    for die_at in (1, 2):  # at the end of a round, before its checkpoint
        with pytest.raises(KeyboardInterrupt):
            run_distillation(distillation(tmp_path, "killed", distill=distill), tmp_path / "out", Recorder(die_at))
    _, counts = run_distillation(distillation(tmp_path, "killed", distill=distill), tmp_path / "again", NullRun())
    assert (counts["student_updates"], counts["critic_updates"]) == (3, 6)
    whole, again = weights(tmp_path / "whole"), weights(tmp_path / "again")
    assert all(torch.equal(tensor, again[name]) for name, tensor in whole.items())
    assert (tmp_path / "whole" / "routing.json").read_text() == (tmp_path / "again" / "routing.json").read_text()


def test_experts_that_do_not_beat_the_base_leave_it_to_teach_alone(tmp_path: Path) -> None:
    run = Recorder()
    settings = distillation(tmp_path, gains={"c0": False, "c1": False})
    _, counts = run_distillation(settings, tmp_path / "out", run)
    assert counts["teachers"] == 1
    assert "committee_not_informative" in run.events
    assert "not informative" in json.loads((tmp_path / "out" / "routing.json").read_text())["note"]


def test_an_expert_that_does_not_teach_hands_its_domain_to_the_base(tmp_path: Path) -> None:
    run_distillation(distillation(tmp_path, gains={"c0": True, "c1": False}), tmp_path / "out", NullRun())
    told = json.loads((tmp_path / "out" / "routing.json").read_text())["taught"]
    assert {name for bands in told["c1"].values() for row in bands.values() for name in row} == {"base"}


def test_an_ill_student_is_rolled_back_and_the_run_stops_at_the_last_healthy_one(tmp_path: Path) -> None:
    strict = CONFIG.health.model_copy(update={"min_ratio": 0.999999, "max_ratio": 1.000001, "max_rollbacks": 1})
    folded = CONFIG.model_copy(update={"matching": CONFIG.matching.model_copy(update={"rounds": 0})})
    run_distillation(distillation(tmp_path, "folded", distill=folded), tmp_path / "folded", NullRun())
    run = Recorder()
    _, counts = run_distillation(distillation(tmp_path, distill=CONFIG.model_copy(update={"health": strict})), tmp_path / "out", run)
    assert run.events.count("student_ill") == 2
    assert run.events[-1] == "stopped"
    assert counts["rollbacks"] == 2
    assert json.loads((tmp_path / "out" / "training.json").read_text())["stopped"]
    healthy = weights(tmp_path / "folded")
    assert all(torch.equal(tensor, healthy[name]) for name, tensor in weights(tmp_path / "out").items())


@pytest.mark.parametrize("kind", ["soft", "learned"])
def test_soft_and_learned_routing_share_a_sample_among_teachers(tmp_path: Path, kind: str) -> None:
    routing = RoutingConfig(kind=kind, temperature=1.0, gate_steps=5)  # type: ignore[arg-type]
    run_distillation(distillation(tmp_path, distill=CONFIG.model_copy(update={"routing": routing})), tmp_path / "out", NullRun())
    told = json.loads((tmp_path / "out" / "routing.json").read_text())["taught"]
    assert any(len(row) > 1 for objectives in told.values() for bands in objectives.values() for row in bands.values())


def test_a_domain_nobody_teaches_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RoutingError, match="nobody teaches 'c1'"):
        settings = distillation(tmp_path, gains={"c0": True, "other": True})
        run_distillation(settings, tmp_path / "out", NullRun())
    routing = RoutingConfig(rules=(RoutingRule(), RoutingRule(expert="base")))
    answered = distillation(tmp_path, distill=CONFIG.model_copy(update={"routing": routing}))
    run_distillation(answered, tmp_path / "out", NullRun())


def test_one_expert_is_no_committee(tmp_path: Path) -> None:
    with pytest.raises(CommitteeError, match="at least two"):
        run_distillation(distillation(tmp_path, gains={"c0": True}), tmp_path / "out", NullRun())
    single = CONFIG.model_copy(update={"teachers": "single"})
    _, counts = run_distillation(distillation(tmp_path, distill=single), tmp_path / "out", NullRun())
    assert counts["teachers"] == 1


def test_experts_of_another_base_are_refused(tmp_path: Path) -> None:
    write_payload(tmp_path / "other", seed=7)
    with pytest.raises(CommitteeError, match="another base"):
        run_distillation(distillation(tmp_path, experts=tmp_path / "other", experts_digest="o" * 64), tmp_path / "out", NullRun())
    (tmp_path / "model" / "training.json").write_text(json.dumps({"parent_digest": "o" * 64}))
    run_distillation(distillation(tmp_path, experts=tmp_path / "other", experts_digest="o" * 64), tmp_path / "out", NullRun())
    wider = MODEL.model_copy(update={"hidden_size": 64, "rope_axes_dim": (8, 12, 12)})
    save_transformer(ErnieImageDiT(wider), tmp_path / "model" / "transformer")
    with pytest.raises(AdapterError, match="another width"):
        run_distillation(distillation(tmp_path), tmp_path / "out", NullRun())


def test_a_teacher_that_yields_nan_is_named(tmp_path: Path) -> None:
    settings = distillation(tmp_path)
    path = tmp_path / "model" / "experts" / "c1" / "pytorch_lora_weights.safetensors"
    with safe_open(path, "pt") as file:
        header = file.metadata()
    save_file({name: tensor * float("nan") for name, tensor in load_file(path).items()}, path, metadata=header)
    with pytest.raises(CommitteeError, match=r"committee\.c1.*NaN"):
        run_distillation(settings, tmp_path / "out", NullRun())


def test_an_empty_prompt_set_is_refused(tmp_path: Path) -> None:
    write_payload(tmp_path / "model")
    contract = LatentsContract(vae_digest="v" * 64, stride=16, channels=8, text_dim=12, max_tokens=16)
    with LatentsWriter(tmp_path / "latents", contract, torch.zeros(1, 12)) as writer:
        writer.add("k", torch.zeros(8, 4, 4), [EncodedCaption("long", torch.ones(2, 12))], sampling_weight=0.0)
    with pytest.raises(PromptError, match="no prompt"):
        run_distillation(distillation(tmp_path), tmp_path / "out", NullRun())
    with LatentsWriter(tmp_path / "latents", contract, torch.zeros(1, 12)):
        pass
    with pytest.raises(LatentsError, match="at least one sample"):
        run_distillation(distillation(tmp_path), tmp_path / "out", NullRun())


def test_missing_experts_say_what_to_give(tmp_path: Path) -> None:
    save_transformer(ErnieImageDiT(MODEL), tmp_path / "model" / "transformer")
    write_latents(tmp_path / "latents", num=4)
    with pytest.raises(CommitteeError, match="finetune-sft"):
        run_distillation(distillation(tmp_path), tmp_path / "out", NullRun())
