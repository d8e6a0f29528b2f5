"""The moving average: its rule, its precision, and that it never leaks into the trained weights."""

from __future__ import annotations

import torch
from torch import nn

from imagewright.models.ema import ExponentialMovingAverage


def linear_with(value: float, dtype: torch.dtype = torch.float32) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False).to(dtype)
    nn.init.constant_(layer.weight, value)
    return layer


def test_first_updates_use_the_warm_up_decay() -> None:
    layer = linear_with(0.0)
    average = ExponentialMovingAverage(layer, decay=0.99)
    nn.init.constant_(layer.weight, 1.0)
    average.update(layer)  # decay 1/10
    torch.testing.assert_close(average.shadow["weight"], torch.tensor([[0.9]]))
    average.update(layer)  # decay 2/11
    torch.testing.assert_close(average.shadow["weight"], torch.tensor([[1 - 0.1 * 2 / 11]]))


def test_decay_stops_growing_at_its_limit() -> None:
    average = ExponentialMovingAverage(linear_with(0.0), decay=0.5)
    average.num_updates = 7
    assert average.current_decay() == 8 / 17
    average.num_updates = 8
    assert average.current_decay() == 0.5


def test_bf16_weights_are_averaged_in_fp32() -> None:
    layer = linear_with(1.0, torch.bfloat16)
    average = ExponentialMovingAverage(layer, decay=0.999)
    average.num_updates = 10**6
    nn.init.constant_(layer.weight, 2.0)
    average.update(layer)
    torch.testing.assert_close(average.shadow["weight"], torch.tensor([[1.001]]))


def test_applied_puts_the_trained_weights_back_even_after_an_error() -> None:
    layer = linear_with(0.0)
    average = ExponentialMovingAverage(layer)
    nn.init.constant_(layer.weight, 3.0)
    try:
        with average.applied(layer):
            assert layer.weight.item() == 0.0
            raise RuntimeError("evaluation failed")
    except RuntimeError:
        assert layer.weight.item() == 3.0


def test_state_survives_a_save_and_frozen_parameters_are_left_out() -> None:
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    average = ExponentialMovingAverage(layer)
    nn.init.constant_(layer.weight, 1.0)
    average.update(layer)
    other = ExponentialMovingAverage(layer)
    other.load_state_dict({name: tensor.clone() for name, tensor in average.state_dict().items()}, average.num_updates)
    assert list(other.shadow) == ["weight"] and other.num_updates == 1
    assert torch.equal(other.shadow["weight"], average.shadow["weight"])
