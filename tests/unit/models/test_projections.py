"""Joined products equal separate ones, and nothing that is attached to a layer is bypassed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imagewright.models.projections import is_plain, join_weights, neighbours, project_together


def test_joined_layers_equal_separate_calls() -> None:
    layers, x = [nn.Linear(4, 3, bias=False), nn.Linear(4, 5, bias=False)], torch.randn(6, 4)
    torch.testing.assert_close(project_together(layers, x), torch.cat([layer(x) for layer in layers], dim=-1))


def test_a_hook_on_a_layer_still_runs() -> None:
    layers, x = [nn.Linear(4, 3, bias=False), nn.Linear(4, 3, bias=False)], torch.randn(6, 4)
    layers[1].register_forward_hook(lambda layer, inputs, output: output + 1.0)
    expected = torch.cat([x @ layers[0].weight.t(), x @ layers[1].weight.t() + 1.0], dim=-1)
    torch.testing.assert_close(project_together(layers, x), expected)


def test_wrapped_biased_and_hooked_layers_are_not_plain() -> None:
    class Adapted(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) * 2

    hooked = nn.Linear(2, 2, bias=False)
    hooked.register_forward_pre_hook(lambda layer, inputs: None)
    assert is_plain(nn.Linear(2, 2, bias=False))
    assert not any(is_plain(layer) for layer in (nn.Linear(2, 2), Adapted(2, 2, bias=False), hooked, nn.Identity()))


def test_joined_weights_are_one_view_and_give_the_same_product() -> None:
    layers, x = [nn.Linear(4, 3, bias=False), nn.Linear(4, 5, bias=False)], torch.randn(6, 4)
    expected = torch.cat([layer(x) for layer in layers], dim=-1)
    assert neighbours([layer.weight for layer in layers]) is None
    join_weights(layers)
    joined = neighbours([layer.weight for layer in layers])
    assert joined is not None
    assert joined.data_ptr() == layers[0].weight.data_ptr()
    torch.testing.assert_close(project_together(layers, x), expected)


def test_trained_moved_and_disordered_weights_are_no_neighbours() -> None:
    layers, x = [nn.Linear(4, 3, bias=False), nn.Linear(4, 3, bias=False)], torch.randn(6, 4)
    join_weights(layers)
    weights = [layer.weight for layer in layers]
    assert neighbours(weights[::-1]) is None
    assert neighbours([weights[0], weights[1].clone()]) is None
    layers[1].weight.requires_grad_(True)
    assert neighbours([layer.weight for layer in layers]) is None
    project_together(layers, x).sum().backward()
    assert layers[1].weight.grad is not None
