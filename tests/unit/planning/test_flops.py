"""Counts of the released shape, known from its published configuration."""

from __future__ import annotations

import pytest

from imagewright.config.model import ModelConfig
from imagewright.models.dit import ErnieImageDiT
from imagewright.planning.flops import forward_flops, num_parameters

RELEASED = ModelConfig(
    hidden_size=4096, num_layers=36, num_attention_heads=32, ffn_hidden_size=12288, text_in_dim=3072, rope_axes_dim=(32, 48, 48)
)


def test_the_released_shape_has_8_033_490_048_parameters() -> None:
    assert num_parameters(RELEASED) == 8_033_490_048


@pytest.mark.parametrize("text_in_dim", [256, 100])
def test_the_formula_counts_what_the_network_holds(text_in_dim: int) -> None:
    model = ModelConfig(text_in_dim=text_in_dim)
    assert num_parameters(model) == sum(parameter.numel() for parameter in ErnieImageDiT(model).parameters())


def test_a_1024_px_image_with_256_text_tokens_costs_about_80_tflop() -> None:
    assert forward_flops(RELEASED, 4096, 256) == pytest.approx(79.5e12, rel=0.01)
