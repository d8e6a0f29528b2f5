"""AdamW with moments in 8 bits: how much memory it takes, how near it stays to AdamW, and that it resumes bitwise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from tiny_run import CONFIG, Recorder, TinyMethod, build, same, weights
from torch import nn

from imagewright.config.training import TrainingConfig
from imagewright.training.eight_bit import AdamW8bit, code_book
from imagewright.training.engine import EngineStateError
from imagewright.training.optimizer import build_optimizer

EIGHT_BIT = CONFIG.model_copy(update={"optimizer": "adamw_8bit"})


class Kill(BaseException):
    """Ends a run at a step boundary."""


class WideMethod(TinyMethod):
    """The tiny problem with a matrix large enough to be quantised."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(4, 80), nn.GELU(), nn.Linear(80, 80), nn.GELU(), nn.Linear(80, 1))


def fit(optimizer: str, steps: int = 150) -> float:
    """Loss on all digits of a real data set after training a small network on them, mean of the last 20 steps."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 128), nn.GELU(), nn.Linear(128, 10))
    chosen = build_optimizer(network, TrainingConfig(optimizer=optimizer, weight_decay=0.01))
    for group in chosen.param_groups:
        group["lr"] = 1e-3
    losses = []
    for step in range(steps):
        rows = torch.arange(step * 256, step * 256 + 256) % len(x)
        loss = nn.functional.cross_entropy(network(x[rows]), y[rows])
        chosen.zero_grad()
        loss.backward()
        chosen.step()
        losses.append(float(loss.detach()))
    return sum(losses[-20:]) / 20


def state_bytes(optimizer: str) -> float:
    """Measured bytes of state per weight of one large matrix."""
    layer = nn.Linear(1024, 1000, bias=False)
    chosen = build_optimizer(layer, TrainingConfig(optimizer=optimizer))
    layer.weight.grad = torch.randn_like(layer.weight)
    chosen.step()
    return sum(value.nbytes for value in chosen.state[layer.weight].values()) / layer.weight.numel()


def test_a_weight_takes_two_bytes_of_state_instead_of_eight() -> None:
    assert state_bytes("adamw") == pytest.approx(8.0, rel=1e-3)
    assert state_bytes("adamw_8bit") == pytest.approx(2.0 + 8.0 / 256, rel=1e-3)
    assert state_bytes("adafactor") < 0.1


def test_a_real_fit_ends_where_adamw_ends() -> None:
    reference = fit("adamw")
    assert reference < 0.2
    assert fit("adamw_8bit") == pytest.approx(reference, rel=0.05)


def test_small_tensors_are_updated_exactly_as_by_adamw() -> None:
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 63)) for _ in range(2))
    mine = AdamW8bit([ours], lr=0.1, betas=(0.9, 0.95), eps=1e-8)
    reference = torch.optim.AdamW([theirs], lr=0.1, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)
    for step in range(5):
        ours.grad = theirs.grad = torch.sin(torch.arange(63.0) + step)
        mine.step()
        reference.step()
    assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-7)


def test_a_gradient_far_smaller_than_its_neighbours_takes_no_giant_step() -> None:
    weight = nn.Parameter(torch.zeros(4096))
    optimizer = AdamW8bit([weight], lr=1.0, betas=(0.9, 0.95), eps=1e-8)
    gradient = torch.full((4096,), 1e-5)
    gradient[0] = 1.0
    for _ in range(3):
        weight.grad = gradient
        before = weight.detach().clone()
        optimizer.step()
        assert float((weight.detach() - before).abs().max()) < 1.5


def test_a_tensor_longer_than_one_part_and_not_a_multiple_of_a_block_is_updated_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for part in (1 << 22, 512):
        monkeypatch.setattr("imagewright.training.eight_bit.PART", part)
        weight = nn.Parameter(torch.zeros(5001))
        optimizer = AdamW8bit([weight], lr=0.1, betas=(0.9, 0.95), eps=1e-8)
        for step in range(3):
            weight.grad = torch.cos(torch.arange(5001.0) * (step + 1))
            optimizer.step()
        results.append(weight.detach().clone())
    assert torch.equal(*results)
    assert bool((results[0] != 0).all())


@pytest.mark.parametrize(("signed", "lowest", "smallest"), [(True, -0.99296875, 5.5e-7), (False, 0.0, 3.25e-7)])
def test_the_levels_are_those_of_the_paper(signed: bool, lowest: float, smallest: float) -> None:
    levels, edges = code_book(signed, torch.device("cpu"))
    assert (len(levels), len(edges), float(levels[-1])) == (256, 255, 1.0)
    assert float(levels[0]) == pytest.approx(lowest)
    assert float(levels[levels > 0][0]) == pytest.approx(smallest)


@pytest.mark.parametrize("killed_at", [4, 8])
def test_a_killed_run_continues_bitwise(tmp_path: Path, killed_at: int) -> None:
    class Killer(Recorder):
        def after_step(self, report: object) -> None:
            super().after_step(report)  # type: ignore[arg-type]
            if len(self.reports) == killed_at:
                raise Kill

    whole, _ = build(tmp_path / "whole", method=WideMethod(), config=EIGHT_BIT)
    whole.fit()
    with pytest.raises(Kill):
        build(tmp_path / "killed", method=WideMethod(), config=EIGHT_BIT, recorder=Killer())[0].fit()
    resumed, _ = build(tmp_path / "killed", method=WideMethod(), config=EIGHT_BIT)
    assert resumed.fit().resumed_from == (killed_at - 1) // 3 * 3
    assert weights(whole)["first_moment.2.weight"].dtype == torch.uint8
    assert same(weights(whole), weights(resumed))


@pytest.mark.parametrize(("saved", "resumed"), [("adamw", "adamw_8bit"), ("adamw_8bit", "adamw")])
def test_the_state_of_another_optimizer_is_refused(tmp_path: Path, saved: str, resumed: str) -> None:
    build(tmp_path, method=WideMethod(), config=CONFIG.model_copy(update={"optimizer": saved}))[0].fit()
    other, _ = build(tmp_path, method=WideMethod(), config=CONFIG.model_copy(update={"optimizer": resumed}))
    with pytest.raises(EngineStateError, match=rf"checkpoint\.optimizer.*{resumed}"):
        other.fit()


def test_zero_refuses_it_and_says_what_to_do() -> None:
    with pytest.raises(ValidationError, match=r"adamw_8bit needs engine: torch.*offload"):
        TrainingConfig(engine="deepspeed", optimizer="adamw_8bit")
