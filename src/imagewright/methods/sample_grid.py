"""Pictures a model in training draws of held-out captions, beside the pictures those captions came with.

Captions, noise and order are fixed by the data, so the pictures of two steps, or of a run and its resumed half, compare one to one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imagewright.config.pretrain import PretrainStage
from imagewright.config.sample_grid import SampleGridConfig
from imagewright.data.latents import CorruptSampleError, EncodedSample, LatentsDataset
from imagewright.diffusion.sampler import VelocityModel, sample
from imagewright.evaluation.grid import write_grid
from imagewright.models.vae import Autoencoder, decode, digest, load_vae
from imagewright.models.vae_training import to_pixels


@dataclass(frozen=True)
class SampleGrid:
    """What is painted, and where the pictures go."""

    config: SampleGridConfig
    dataset: LatentsDataset
    held_out: frozenset[int]
    """Samples to paint; all of the data where nothing is held out."""
    stages: Sequence[PretrainStage]
    vae_folder: Path
    folder: Path
    device: torch.device | str = "cpu"

    @cached_property
    def vae(self) -> Autoencoder:
        """The autoencoder, loaded with the first picture. Raises LatentsError when the latents were made with another one."""
        vae = load_vae(self.vae_folder)
        self.dataset.contract.require(vae_digest=digest(vae))
        return vae.to(self.device)

    def paint(self, model: VelocityModel, step: int) -> Path:
        """Paints after `step` steps and returns the PNG: the data's pictures above, the model's below."""
        samples = list(self.samples(self.stages[stage_at(self.stages, step)].resolution))
        config = self.config
        painted = sample(
            model,
            [found.prompt_embeds.float() for found in samples],
            [(found.latents.shape[1], found.latents.shape[2]) for found in samples],
            channels=self.dataset.contract.channels,
            seeds=list(range(len(samples))),
            num_steps=config.num_steps,
            shift=config.shift,
            guidance_scale=config.guidance_scale,
            negative_embeds=self.dataset.empty_prompt.float().to(self.device),
            device=self.device,
        )
        columns = [[self.pixels(found.latents), self.pixels(own)] for found, own in zip(samples, painted, strict=True)]
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{step:08d}.png"
        write_grid(columns, path)
        return path

    def samples(self, resolution: int) -> Iterable[EncodedSample]:
        """The samples painted in a stage of this resolution, with their first captions; corrupt ones are passed over."""
        usable = set(self.dataset.at_resolution(resolution).tolist()) if resolution else set(range(len(self.dataset)))
        found = 0
        for index in spread(self.dataset, sorted(usable & self.held_out) or sorted(usable)):
            try:
                sample = self.dataset.read(index)
            except CorruptSampleError:
                continue
            yield sample
            found += 1
            if found == self.config.num_prompts:
                return

    def pixels(self, latents: Tensor) -> NDArray[np.uint8]:
        """Latents [C, h, w] -> picture [H, W, 3]. One at a time: sizes differ, and a large picture takes much memory to decode."""
        picture = to_pixels(decode(self.vae, latents[None].float().to(self.device)))[0]
        return np.ascontiguousarray(picture.cpu().numpy().transpose(1, 2, 0))


def spread(dataset: LatentsDataset, indices: Sequence[int]) -> list[int]:
    """The indices in an order that visits every category before any of them twice, a sample key once."""
    members: dict[int, list[int]] = {}
    seen: set[str] = set()
    for index in indices:
        if dataset.sample_key(index) not in seen:
            seen.add(dataset.sample_key(index))
            members.setdefault(int(dataset.samples[index]["category"]), []).append(index)
    rounds = zip_longest(*(members[category] for category in sorted(members)))
    return [index for turn in rounds for index in turn if index is not None]


def stage_at(stages: Sequence[PretrainStage], step: int) -> int:
    """Number of the stage that made step `step` (counted from 1)."""
    done = 0
    for number, stage in enumerate(stages):
        done += stage.steps
        if step <= done:
            return number
    return len(stages) - 1
