"""A simulated trajectory is exactly what the exported sampler runs."""

from __future__ import annotations

import torch
from torch import Tensor

from imagewright.diffusion.backward_simulation import simulate
from imagewright.diffusion.sampler import sample
from imagewright.models.packing import Pack

PROMPTS = [torch.ones(2, 3), torch.ones(1, 3)]
SIZES = [(2, 2), (1, 3)]


def model(pack: Pack) -> Tensor:
    """A velocity that depends on place, noise level and prompt."""
    return torch.sin(pack.image_tokens * 2) + pack.spread(pack.timesteps) / 1000.0


def test_the_final_latents_equal_the_sampler_s_bit_for_bit() -> None:
    rollout = simulate(model, PROMPTS, SIZES, [4, 5], channels=3, num_steps=8, shift=4.0)
    drawn = sample(model, PROMPTS, SIZES, channels=3, seeds=[4, 5], num_steps=8, shift=4.0)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(rollout.pack.unpack(rollout.final), drawn, strict=True))


def test_states_are_picked_by_sample_with_their_levels() -> None:
    rollout = simulate(model, PROMPTS, SIZES, [4, 5], channels=3, num_steps=8, shift=4.0)
    pack = rollout.at(torch.tensor([0, 6]))
    assert pack.timesteps.tolist() == [1000.0, float(rollout.sigmas[6] * 1000.0)]
    torch.testing.assert_close(rollout.sigmas[6], torch.tensor(0.57143), atol=1e-5, rtol=0)
    assert torch.equal(pack.image_tokens[:4], rollout.states[0][:4])
    assert torch.equal(pack.image_tokens[4:], rollout.states[6][4:])
    assert torch.equal(rollout.clean_at(torch.tensor([7, 7])), rollout.final)  # the last step ends at its clean prediction
