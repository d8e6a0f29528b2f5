"""The rotary layout that the released weights expect."""

from __future__ import annotations

import torch
from diffusers.models.transformers.transformer_ernie_image import ErnieImageEmbedND3

from imagewright.models.rope import rotary_angles, rotary_tables, rotate


def test_angles_equal_diffusers() -> None:
    positions = torch.tensor([[0.0, 0, 0], [3, 1, 2], [511, 63, 63], [2047, 85, 0]])
    expected = ErnieImageEmbedND3(128, 256, (32, 48, 48))(positions[None])[0, :, 0]
    assert torch.equal(rotary_angles(positions, (32, 48, 48), 256), expected)


def test_frequencies_come_in_neighbouring_pairs() -> None:
    angles = rotary_angles(torch.tensor([[1.0, 1.0, 1.0]]), (4, 4, 0), 16)
    torch.testing.assert_close(angles, torch.tensor([[1.0, 1.0, 0.25, 0.25, 1.0, 1.0, 0.25, 0.25]]))


def test_rotation_mixes_the_two_halves() -> None:
    x = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    cos, sin = torch.zeros(1, 1, 4), torch.ones(1, 1, 4)
    assert rotate(x, cos, sin).tolist() == [[[-3.0, -4.0, 1.0, 2.0]]]


def test_bf16_tables_keep_neighbouring_positions_apart_above_256() -> None:
    positions = torch.tensor([[300.0, 0, 0], [301.0, 0, 0]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cos, _ = rotary_tables(positions, (4, 0, 0), 256, torch.bfloat16)
    assert not torch.equal(cos[0], cos[1])
