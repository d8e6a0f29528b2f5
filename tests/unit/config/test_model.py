"""Model shapes that contradict themselves are refused with both numbers."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from imagewright.config.model import ModelConfig


def test_released_shape_is_accepted() -> None:
    config = ModelConfig(
        hidden_size=4096, num_layers=36, num_attention_heads=32, ffn_hidden_size=12288, text_in_dim=3072, rope_axes_dim=(32, 48, 48)
    )
    assert config.head_dim == 128


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_axes_dim": (16, 24, 22)}, "sums to 62"),
        ({"rope_axes_dim": (16, 23, 25)}, "even numbers"),
        ({"num_attention_heads": 3}, "even multiple"),
        ({"out_channels": 64}, "must equal in_channels"),
        ({"qk_layernorm": False}, "True"),
        ({"patch_size": 2}, "1"),
    ],
)
def test_contradictions_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelConfig(**changes)
