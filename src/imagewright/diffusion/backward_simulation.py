"""Backward simulation: the student's own trajectory from noise, by the rule it is exported with; distillation trains on its states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from imagewright.diffusion.flow_matching import TIMESTEP_SCALE, euler_step, recover_x0
from imagewright.diffusion.sampler import VelocityModel, draw_noise, schedule
from imagewright.models.packing import Pack, pack_samples


@dataclass(frozen=True)
class Rollout:
    """A trajectory of S steps. states, clean: [S, N, C], what each step started from and its clean prediction; final: [N, C]."""

    pack: Pack
    sigmas: Tensor
    states: Tensor
    clean: Tensor
    final: Tensor

    def at(self, steps: Tensor) -> Pack:
        """The states at one step per sample, steps [B], with their timesteps."""
        return self.pack.replace_image_tokens(self.pick(self.states, steps), self.sigmas[steps] * TIMESTEP_SCALE)

    def clean_at(self, steps: Tensor) -> Tensor:
        """Clean predictions at one step per sample, [N, C]."""
        return self.pick(self.clean, steps)

    def pick(self, table: Tensor, steps: Tensor) -> Tensor:
        """Rows [N, C] of a table [S, N, C] by each token's sample."""
        return table[steps[self.pack.image_segment_ids], torch.arange(table.shape[1], device=table.device)]


@torch.no_grad()
def simulate(
    model: VelocityModel,
    prompt_embeds: Sequence[Tensor],
    sizes: Sequence[tuple[int, int]],
    seeds: Sequence[int],
    *,
    channels: int,
    num_steps: int,
    shift: float,
    device: torch.device | str = "cpu",
) -> Rollout:
    """Deterministic Euler from noise to image without guidance, every state kept. `final` equals `sampler.sample` bit for bit."""
    noise = [latent.to(device) for latent in draw_noise(seeds, sizes, channels)]
    pack = pack_samples(noise, [prompt.to(device) for prompt in prompt_embeds], torch.zeros(len(sizes), device=device))
    sigmas = schedule(num_steps, shift).to(device)
    x, states, clean = pack.image_tokens, [], []
    for sigma, next_sigma in pairwise(sigmas):
        timesteps = torch.full_like(pack.timesteps, float(sigma * TIMESTEP_SCALE))
        velocity = model(pack.replace_image_tokens(x, timesteps)).float()
        states.append(x)
        clean.append(recover_x0(x, velocity, sigma))
        x = euler_step(x, velocity, sigma, next_sigma)
    return Rollout(pack, sigmas, torch.stack(states), torch.stack(clean), x)
