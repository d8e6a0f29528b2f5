"""Embedding of the timestep and the modulated output norm against diffusers' layers."""

from __future__ import annotations

import torch
from diffusers.models.embeddings import Timesteps
from diffusers.models.transformers.transformer_ernie_image import ErnieImageAdaLNContinuous

from imagewright.models.modulation import FinalNorm, add_gated, sinusoid


def test_sinusoid_is_sines_then_cosines_of_the_0_to_1000_scale() -> None:
    timesteps = torch.tensor([0.0, 0.5, 965.52, 1000.0])
    expected = Timesteps(64, flip_sin_to_cos=False, downscale_freq_shift=0)(timesteps)
    torch.testing.assert_close(sinusoid(timesteps, 64), expected)
    assert sinusoid(timesteps, 4)[0].tolist() == [0.0, 0.0, 1.0, 1.0]


def test_final_norm_reads_scale_before_shift() -> None:
    ours, theirs = FinalNorm(8, 1e-6), ErnieImageAdaLNContinuous(8, 1e-6)
    theirs.load_state_dict(ours.state_dict())
    x, condition = torch.randn(6, 8), torch.randn(2, 8)
    segments = torch.tensor([0, 0, 0, 1, 1, 1])
    expected = theirs(torch.stack([x[:3], x[3:]], dim=1), condition).transpose(0, 1).flatten(0, 1)
    torch.testing.assert_close(ours(x, condition, segments), expected)


def test_gated_residual_by_hand() -> None:
    assert add_gated(torch.tensor([[1.0]]), torch.tensor([[0.5]]), torch.tensor([[4.0]])).tolist() == [[3.0]]
