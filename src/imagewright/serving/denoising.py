"""Steps images together: one packed pass of the transformer for all of them, whatever their sizes, steps and guidance.

An image depends on its own prompt, seed, size and steps only: noise comes from its own generator, and packing mixes nothing.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

import torch
from torch import Tensor

from imagewright.diffusion.flow_matching import TIMESTEP_SCALE, euler_step
from imagewright.diffusion.guidance import guide, needs_guidance
from imagewright.diffusion.sampler import draw_noise, schedule
from imagewright.models.packing import Pack, pack_samples
from imagewright.serving.bundle import Bundle
from imagewright.serving.decoding import Image


@dataclass(frozen=True)
class ImageRequest:
    """One image to make. size_px: (width, height). Prompts are encoded already: [T, D]; the negative one counts when guided only."""

    prompt_embeds: Tensor
    negative_embeds: Tensor | None
    size_px: tuple[int, int]
    seed: int
    num_steps: int
    guidance_scale: float


@dataclass
class Running:
    """An image that waits, or is between its first and last step."""

    request: ImageRequest
    future: Future[Image]
    submitted: float
    latent: Tensor | None = None
    sigmas: Tensor = field(default_factory=lambda: torch.zeros(0))
    step: int = 0

    @property
    def guided(self) -> bool:
        """Whether a step needs two passes."""
        return needs_guidance(self.request.guidance_scale) and self.request.negative_embeds is not None

    @property
    def finished(self) -> bool:
        """Whether only decoding is left."""
        return self.step == self.request.num_steps


class Denoiser:
    """The transformer of one bundle. Several threads may use it at once, each for its own images."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.device = bundle, bundle.transformer.final_linear.weight.device

    def tokens_of(self, entry: Running) -> int:
        """Tokens of one image in a pack; the negative prompt's pass counts too."""
        request = entry.request
        area = (request.size_px[0] // self.bundle.stride) * (request.size_px[1] // self.bundle.stride)
        prompts = [request.prompt_embeds, request.negative_embeds] if entry.guided else [request.prompt_embeds]
        return sum(area + prompt.shape[0] for prompt in prompts if prompt is not None)

    def advance(self, entries: list[Running]) -> None:
        """One Euler step of every image that has one left; a new image starts from its noise."""
        for entry in entries:
            if entry.latent is None:
                self.start(entry)
        moving = [entry for entry in entries if not entry.finished]
        for entry, velocity in zip(moving, self.velocities(moving), strict=True):
            assert entry.latent is not None
            entry.latent = euler_step(entry.latent, velocity, entry.sigmas[entry.step], entry.sigmas[entry.step + 1])
            entry.step += 1

    def start(self, entry: Running) -> None:
        """Draws the noise of one image from its own generator and lays out its schedule."""
        width, height = entry.request.size_px
        size = (height // self.bundle.stride, width // self.bundle.stride)
        noise = draw_noise([entry.request.seed], [size], self.bundle.transformer.config.in_channels)[0]
        # diffusers draws noise in the weights' dtype, which is the fp32 draw rounded; latents stay fp32 between steps.
        entry.latent = noise.to(self.bundle.transformer.dtype).to(self.device, torch.float32)
        entry.sigmas = schedule(entry.request.num_steps, self.bundle.defaults.shift).to(self.device)

    def velocities(self, entries: list[Running]) -> list[Tensor]:
        """Guided velocity [C, h, w] of every image, from one packed pass: conditional ones first, then the negatives."""
        if not entries:
            return []
        guided = [index for index, entry in enumerate(entries) if entry.guided]
        passes = [*entries, *(entries[index] for index in guided)]
        negatives = [entries[index].request.negative_embeds for index in guided]
        prompts = [prompt for prompt in (*(entry.request.prompt_embeds for entry in entries), *negatives) if prompt is not None]
        timesteps = torch.stack([entry.sigmas[entry.step] * TIMESTEP_SCALE for entry in passes])
        latents = [entry.latent for entry in passes if entry.latent is not None]
        pack: Pack = pack_samples(latents, [prompt.to(self.device) for prompt in prompts], timesteps)
        predicted = pack.unpack(self.bundle.transformer(pack).float())
        velocities = predicted[: len(entries)]
        for negative, index in enumerate(guided, start=len(entries)):
            velocities[index] = guide(velocities[index], predicted[negative], entries[index].request.guidance_scale)
        return velocities
