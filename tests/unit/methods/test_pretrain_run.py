"""A whole pretraining run: stages, resume in the right stage, what is written, what is refused."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from pretrain_cases import BATCHING, STAGES, dataset_of, settings, write_latents

from imagewright.config.pretrain import PretrainConfig
from imagewright.data.latents import LatentsError
from imagewright.data.packed_loader import Batch
from imagewright.methods.pretrain import TRANSFORMER
from imagewright.methods.pretrain_run import build_trainer, run_pretraining
from imagewright.models.diffusers_adapter import load_transformer
from imagewright.tracking.job_run import NullRun
from imagewright.training.hooks import StepReport
from imagewright.training.world import World


class Stop(BaseException):
    """Stands for a kill at a step boundary."""


class Watch:
    def __init__(self, stop_at: int = 0) -> None:
        self.reports: list[StepReport] = []
        self.stop_at = stop_at

    def after_step(self, report: StepReport) -> None:
        self.reports.append(report)
        if report.step == self.stop_at:
            raise Stop


def test_a_run_writes_weights_average_and_where_they_come_from(tmp_path: Path) -> None:
    result, counts = run_pretraining(settings(tmp_path), tmp_path / "out", NullRun())
    assert result.steps == counts["steps"] == 9
    assert counts["quarantined"] == 0
    assert {"validation/loss", "validation/loss_t0", "validation/loss_t1"} == set(result.validation)
    weights, average = load_transformer(tmp_path / "out" / "transformer"), load_transformer(tmp_path / "out" / "ema")
    pairs = zip(weights.parameters(), average.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)
    about = json.loads((tmp_path / "out" / "training.json").read_text())
    assert (about["method"], about["step"], about["contract"]["vae_digest"]) == ("pretrain", 9, "v" * 64)


def test_every_stage_trains_at_its_resolution_and_rate(tmp_path: Path) -> None:
    watch = Watch()
    run_pretraining(settings(tmp_path), tmp_path / "out", NullRun(), hooks=(watch,))
    rates = [report.learning_rates[TRANSFORMER] for report in watch.reports]
    assert rates == [0.005, *[0.01] * 4, *[0.005] * 4]
    samples = [report.num_tokens / report.num_samples for report in watch.reports]
    assert max(samples[:5]) < 32 < min(samples[5:])


@pytest.mark.parametrize("stopped_at", [3, 5, 7])
def test_a_stopped_run_continues_in_the_right_stage_bitwise(tmp_path: Path, stopped_at: int) -> None:
    whole = Watch()
    run_pretraining(settings(tmp_path, "whole"), tmp_path / "a", NullRun(), hooks=(whole,))
    with pytest.raises(Stop):
        run_pretraining(settings(tmp_path, "cut"), tmp_path / "b", NullRun(), hooks=(Watch(stopped_at),))
    rest = Watch()
    result, _ = run_pretraining(settings(tmp_path, "cut"), tmp_path / "b", NullRun(), hooks=(rest,))
    assert result.resumed_from == stopped_at - stopped_at % 2
    assert [report.loss for report in rest.reports] == [report.loss for report in whole.reports[result.resumed_from :]]
    for name in ("transformer", "ema"):
        file = f"{name}/diffusion_pytorch_model.safetensors"
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_training_lowers_the_validation_loss(tmp_path: Path) -> None:
    stage = STAGES[0].model_copy(update={"steps": 60})
    run = settings(tmp_path, pretrain=PretrainConfig(stages=(stage,), validation_samples=4, validation_bins=2))
    trainer, _ = build_trainer(run, dataset_of(run), NullRun(), World())
    trainer.validate()
    before = trainer.validation["validation/loss"]
    trainer.fit()
    assert trainer.validation["validation/loss"] < 0.8 * before


@pytest.mark.parametrize("unseen", [0, 6])
def test_held_out_samples_are_never_trained_on(tmp_path: Path, unseen: int) -> None:
    write_latents(tmp_path / "latents", unseen=unseen)
    run = settings(tmp_path)
    dataset = dataset_of(run)
    trainer, loader = build_trainer(run, dataset, NullRun(), World())
    held_out = {key for batch in trainer.method.validation for key in batch.sample_keys}  # type: ignore[attr-defined]
    assert len(held_out) == 4
    seen = {key for _ in range(9) for batch in loader.next_step() for key in batch.sample_keys}
    assert not seen & held_out
    assert not unseen or held_out <= {f"k{index}" for index in range(unseen)}


def test_latents_of_another_shape_are_refused_before_training(tmp_path: Path) -> None:
    run = settings(tmp_path)
    other = run.model.model_copy(update={"in_channels": 16, "out_channels": 16, "text_in_dim": 24})
    with pytest.raises(LatentsError) as caught:
        run_pretraining(settings(tmp_path, model=other), tmp_path / "out", NullRun())
    assert {problem.key for problem in caught.value.problems} == {"latents.channels", "latents.text_dim"}


def split(batch: Batch, parts: int) -> list[Batch]:
    """The samples of one batch as `parts` unequal ones."""
    edges = [round(len(batch) * (at / parts) ** 1.5) for at in range(parts + 1)]
    return [
        Batch(
            latents=batch.latents[a:b],
            prompt_embeds=batch.prompt_embeds[a:b],
            weights=batch.weights[a:b],
            sample_keys=batch.sample_keys[a:b],
            categories=batch.categories[a:b],
            noise_seeds=batch.noise_seeds[a:b],
            num_tokens=1,
            stage=batch.stage,
        )
        for a, b in pairwise(edges)
    ]


def test_the_gradient_does_not_depend_on_how_a_step_is_packed(tmp_path: Path) -> None:
    batching = BATCHING.model_copy(update={"packs_per_step": 1, "pack_tokens": 640})
    stage = STAGES[0].model_copy(update={"batching": batching})
    run = settings(tmp_path, pretrain=PretrainConfig(stages=(stage,), validation_samples=0))
    found = []
    for parts in (1, 2, 4):
        trainer, loader = build_trainer(run, dataset_of(run), NullRun(), World())
        make_every_gradient_nonzero(trainer.method.networks()[TRANSFORMER])
        (batch,) = loader.next_step()
        losses, _, _ = trainer.accumulate(split(batch, parts), batch.num_samples)
        gradients = [parameter.grad for parameter in trainer.method.networks()[TRANSFORMER].parameters()]
        found.append((losses[TRANSFORMER], torch.cat([gradient.flatten() for gradient in gradients if gradient is not None])))
    assert float(found[0][1].abs().max()) > 1e-3
    for loss, gradient in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-6)
        assert torch.allclose(gradient, found[0][1], rtol=1e-5, atol=1e-5 * float(found[0][1].abs().max()))


def make_every_gradient_nonzero(network: torch.nn.Module) -> None:
    """A fresh transformer outputs exactly 0; random weights everywhere make the comparison mean something."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
