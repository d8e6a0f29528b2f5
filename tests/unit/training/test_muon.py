"""Muon inside the blocks, AdamW around them: which weights it takes, torch's own steps as the oracle, and bitwise resumption."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from tiny_run import CONFIG, Recorder, TinyMethod, build, same, weights
from torch import nn

from imagewright.config.model import ModelConfig
from imagewright.config.training import TrainingConfig
from imagewright.models.adapters import attach
from imagewright.models.dit import ErnieImageDiT
from imagewright.training.engine import EngineStateError
from imagewright.training.muon import MuonAdamW, orthogonalise
from imagewright.training.optimizer import build_optimizer, set_learning_rate

MUON = CONFIG.model_copy(update={"optimizer": "muon"})
MODEL = ModelConfig(hidden_size=32, num_attention_heads=2, ffn_hidden_size=48, num_layers=2, rope_axes_dim=(4, 6, 6), text_in_dim=16)


class Kill(BaseException):
    """Ends a run at a step boundary."""


class BlockMethod(TinyMethod):
    """The tiny problem with one block between its ends."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        block = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))
        self.network = nn.Sequential()
        self.network.add_module("first", nn.Linear(4, 8))
        self.network.add_module("layers", nn.Sequential(block))
        self.network.add_module("last", nn.Linear(8, 1))


def names_of_kind(module: nn.Module, kind: str) -> set[str]:
    """Parameters for which one optimizer step keeps state of a kind."""
    optimizer = build_optimizer(module, TrainingConfig(optimizer="muon"))
    set_learning_rate(optimizer, 1e-3)
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    return {name for name, parameter in module.named_parameters() if kind in optimizer.state.get(parameter, {})}


def test_the_matrices_of_the_blocks_and_nothing_else_are_muons() -> None:
    model = ErnieImageDiT(MODEL)
    matrices = {"self_attention.to_q", "self_attention.to_k", "self_attention.to_v", "self_attention.to_out.0"}
    matrices |= {"mlp.gate_proj", "mlp.up_proj", "mlp.linear_fc2"}
    expected = {f"layers.{layer}.{name}.weight" for layer in (0, 1) for name in matrices}
    assert names_of_kind(model, "momentum_buffer") == expected
    assert names_of_kind(model, "exp_avg") == {name for name, _ in model.named_parameters()} - expected


@pytest.mark.parametrize("kind", ["adapter", "no blocks"])
def test_adapters_and_networks_without_blocks_fall_back_to_adamw(kind: str) -> None:
    module: nn.Module = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
    if kind == "adapter":
        module = ErnieImageDiT(MODEL)
        attach(module, "style", rank=2, alpha=2.0)
    assert names_of_kind(module, "momentum_buffer") == set()
    assert names_of_kind(module, "exp_avg_sq") == {name for name, parameter in module.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("shape", [(24, 24), (24, 64), (64, 24), (1, 5)])
def test_singular_values_become_those_that_the_polynomial_gives(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float32)
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    expected = values / values.norm()
    for _ in range(5):
        expected = 3.4445 * expected - 4.7750 * expected**3 + 2.0315 * expected**5
    assert torch.allclose(orthogonalise(matrix).double(), left @ torch.diag(expected) @ right, atol=1e-5)
    assert float(orthogonalise(torch.zeros(shape)).abs().max()) == 0.0


@pytest.mark.parametrize("shape", [(32, 32), (32, 80), (80, 32)])
def test_steps_are_those_of_torchs_muon_up_to_its_rounding(shape: tuple[int, int]) -> None:
    ours, theirs = (nn.Parameter(torch.zeros(shape)) for _ in range(2))
    group = {"params": [ours], "weight_decay": 0.1}
    mine = MuonAdamW([group], [], betas=(0.9, 0.95), eps=1e-8)
    reference = torch.optim.Muon([theirs], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    set_learning_rate(mine, 0.01)
    generator = torch.Generator().manual_seed(2)
    for _ in range(4):
        ours.grad = theirs.grad = torch.randn(shape, generator=generator)
        mine.step()
        reference.step()
    assert float((ours - theirs).detach().norm() / theirs.detach().norm()) < 0.02  # bf16 keeps 8 bits


def test_other_parameters_move_exactly_as_under_adamw() -> None:
    torch.manual_seed(0)
    methods = BlockMethod(), BlockMethod()
    optimizers = (
        build_optimizer(methods[0].network, TrainingConfig(optimizer="muon")),
        build_optimizer(methods[1].network, TrainingConfig()),
    )
    for method, optimizer in zip(methods, optimizers, strict=True):
        set_learning_rate(optimizer, 0.01)
        for parameter in method.network.parameters():
            parameter.grad = torch.cos(torch.arange(float(parameter.numel()))).view_as(parameter)
        optimizer.step()
    ours, theirs = (dict(method.network.named_parameters()) for method in methods)
    equal = {name for name in ours if torch.equal(ours[name], theirs[name])}
    assert equal == ours.keys() - {"layers.0.0.weight", "layers.0.2.weight"}


def test_one_schedule_drives_both_and_the_ratio_is_muons() -> None:
    optimizer = build_optimizer(BlockMethod().network, TrainingConfig(optimizer="muon", muon_learning_rate_ratio=5.0))
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [1.25, 0.25, 0.25]


def test_a_block_matrix_takes_four_bytes_of_state() -> None:
    network = nn.Sequential()
    network.add_module("layers", nn.Sequential(nn.Sequential(nn.Linear(64, 64, bias=False))))
    optimizer = build_optimizer(network, TrainingConfig(optimizer="muon"))
    weight = network.layers[0][0].weight
    weight.grad = torch.randn_like(weight)
    optimizer.step()
    assert sum(value.nbytes for value in optimizer.state[weight].values()) == 4 * weight.numel()


@pytest.mark.parametrize("killed_at", [4, 8])
def test_a_killed_run_continues_bitwise(tmp_path: Path, killed_at: int) -> None:
    class Killer(Recorder):
        def after_step(self, report: object) -> None:
            super().after_step(report)  # type: ignore[arg-type]
            if len(self.reports) == killed_at:
                raise Kill

    whole, _ = build(tmp_path / "whole", method=BlockMethod(), config=MUON)
    whole.fit()
    with pytest.raises(Kill):
        build(tmp_path / "killed", method=BlockMethod(), config=MUON, recorder=Killer())[0].fit()
    resumed, _ = build(tmp_path / "killed", method=BlockMethod(), config=MUON)
    assert resumed.fit().resumed_from == (killed_at - 1) // 3 * 3
    assert {name.partition(".")[0] for name in weights(whole)} == {"weight", "ema", "momentum_buffer", "step", "exp_avg", "exp_avg_sq"}
    assert same(weights(whole), weights(resumed))


@pytest.mark.parametrize(("saved", "resumed"), [("adamw", "muon"), ("adamw_8bit", "muon"), ("muon", "adamw")])
def test_the_state_of_another_optimizer_is_refused(tmp_path: Path, saved: str, resumed: str) -> None:
    build(tmp_path, method=BlockMethod(), config=CONFIG.model_copy(update={"optimizer": saved}))[0].fit()
    other, _ = build(tmp_path, method=BlockMethod(), config=CONFIG.model_copy(update={"optimizer": resumed}))
    with pytest.raises(EngineStateError, match=rf"checkpoint\.optimizer.*{resumed}"):
        other.fit()


def test_zero_refuses_it_and_a_ratio_without_it_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"muon needs engine: torch"):
        TrainingConfig(engine="deepspeed", optimizer="muon")
    with pytest.raises(ValidationError, match=r"muon_learning_rate_ratio needs optimizer: muon"):
        TrainingConfig(muon_learning_rate_ratio=2.0)
