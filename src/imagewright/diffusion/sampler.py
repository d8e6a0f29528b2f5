"""Draws images' latents from a DiT: Euler steps over packs of any sizes and prompt lengths.

The rule is diffusers' `FlowMatchEulerDiscreteScheduler` with a static shift, as the released pipeline runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from imagewright.diffusion.flow_matching import TIMESTEP_SCALE, euler_step
from imagewright.diffusion.guidance import guide, needs_guidance
from imagewright.diffusion.timestep_sampling import shift_sigma
from imagewright.errors import InputError, Problem
from imagewright.models.packing import Pack, join_packs, pack_samples

VelocityModel = Callable[[Pack], Tensor]


def schedule(num_steps: int, shift: float) -> Tensor:
    """Noise levels [num_steps + 1] fp32, from 1 to 0: linspace without its last point, shifted, then a final 0."""
    if num_steps < 1:
        raise InputError(Problem("sampler.num_steps", "must be at least 1", num_steps))
    even = torch.linspace(1.0, 0.0, num_steps + 1)[:-1]
    return torch.cat([shift_sigma(even, shift), torch.zeros(1)])


def draw_noise(seeds: Sequence[int], sizes: Sequence[tuple[int, int]], channels: int) -> list[Tensor]:
    """Unit normal latents [C, h, w], each from its own CPU generator: a seed gives the same noise in any batch, on any device."""
    drawn = []
    for seed, (h, w) in zip(seeds, sizes, strict=True):
        drawn.append(torch.randn(channels, h, w, generator=torch.Generator().manual_seed(seed)))
    return drawn


@torch.no_grad()
def sample(
    model: VelocityModel,
    prompt_embeds: Sequence[Tensor],
    sizes: Sequence[tuple[int, int]],
    *,
    channels: int,
    seeds: Sequence[int],
    num_steps: int = 50,
    shift: float = 4.0,
    guidance_scale: float = 1.0,
    negative_embeds: Sequence[Tensor] | Tensor | None = None,
    device: torch.device | str = "cpu",
) -> list[Tensor]:
    """Samples one latent [C, h, w] (fp32, on `device`) per prompt.

    prompt_embeds: [T, D] per image. sizes: latent (h, w) per image. seeds: one per image. negative_embeds: one [T, D] for all images or
    one per image, required when guidance_scale is not 1; both halves of a guided step run as one doubled pack. Latents stay fp32 between
    steps. Raises InputError on disagreeing counts or guidance without a negative prompt.
    """
    check_request(prompt_embeds, sizes, seeds, guidance_scale, negative_embeds)
    noise = [latent.to(device) for latent in draw_noise(seeds, sizes, channels)]
    start = torch.zeros(len(sizes), device=device)
    pack = pack_samples(noise, [prompt.to(device) for prompt in prompt_embeds], start)
    guided = needs_guidance(guidance_scale) and negative_embeds is not None
    if guided:
        assert negative_embeds is not None
        negatives = [negative_embeds] * len(sizes) if isinstance(negative_embeds, Tensor) else negative_embeds
        pack = join_packs(pack_samples(noise, [prompt.to(device) for prompt in negatives], start), pack)
    x = pack.image_tokens.chunk(2)[1] if guided else pack.image_tokens
    sigmas = schedule(num_steps, shift)
    for sigma, next_sigma in pairwise(sigmas.to(device)):
        timesteps = torch.full_like(pack.timesteps, float(sigma * TIMESTEP_SCALE))
        velocity = model(pack.replace_image_tokens(torch.cat([x, x]) if guided else x, timesteps)).float()
        if guided:
            unconditional, conditional = velocity.chunk(2)
            velocity = guide(conditional, unconditional, guidance_scale)
        x = euler_step(x, velocity, sigma, next_sigma)
    halves = pack.unpack(torch.cat([x, x]) if guided else x)
    return halves[: len(sizes)]


def check_request(
    prompt_embeds: Sequence[Tensor],
    sizes: Sequence[tuple[int, int]],
    seeds: Sequence[int],
    guidance_scale: float,
    negative_embeds: Sequence[Tensor] | Tensor | None,
) -> None:
    """Raises InputError with everything wrong in a sampling request."""
    problems = []
    if not len(prompt_embeds) == len(sizes) == len(seeds):
        counts = f"{len(prompt_embeds)} prompts, {len(sizes)} sizes, {len(seeds)} seeds"
        problems.append(Problem("sampler", "needs one prompt, size and seed per image", counts))
    if needs_guidance(guidance_scale) and negative_embeds is None:
        fix = "give the embedding of the empty prompt, or guidance_scale 1"
        problems.append(Problem("sampler.negative_embeds", "is required when guidance_scale is not 1", None, fix))
    if negative_embeds is not None and not isinstance(negative_embeds, Tensor) and len(negative_embeds) != len(sizes):
        problems.append(Problem("sampler.negative_embeds", f"needs one entry per image ({len(sizes)})", len(negative_embeds)))
    if problems:
        raise InputError(problems)
