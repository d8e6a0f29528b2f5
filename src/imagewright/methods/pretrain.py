"""Pretraining: flow matching on packs of mixed size, every random number tied to the drawn sample."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from imagewright.config.pretrain import PretrainConfig
from imagewright.config.timesteps import TimestepConfig
from imagewright.data.latents import CorruptSampleError, LatentsDataset
from imagewright.data.packed_loader import Batch
from imagewright.data.packing_plan import stream
from imagewright.diffusion.flow_matching import add_noise, timestep_of, velocity_target
from imagewright.diffusion.timestep_sampling import draw_base, sigmas_of
from imagewright.losses.velocity import mean_over_samples, velocity_loss
from imagewright.methods.sample_grid import SampleGrid
from imagewright.models.dit import ErnieImageDiT
from imagewright.models.packing import Pack, image_tokens, pack_samples
from imagewright.planning.flops import TRAINING_FACTOR, forward_flops
from imagewright.training.method import PlainMethod, StepOutput

TRANSFORMER = "transformer"
MAX_HELD_OUT_SHARE = 0.1


class PretrainMethod(PlainMethod):
    """Trains one transformer to predict the velocity of noised latents."""

    def __init__(
        self,
        transformer: ErnieImageDiT,
        config: PretrainConfig,
        validation: Sequence[Batch] = (),
        device: torch.device | str = "cpu",
        grid: SampleGrid | None = None,
    ) -> None:
        """validation: batches of held-out samples; their noise comes from their noise_seeds, so every validation sees the same."""
        self.transformer, self.config, self.validation, self.device, self.grid = transformer, config, validation, device, grid

    def networks(self) -> dict[str, nn.Module]:
        """The transformer."""
        return {TRANSFORMER: self.transformer}

    def train_step(self, batch: Batch, step: int) -> StepOutput:
        """Mean velocity loss of the batch's samples at noise levels drawn for its stage."""
        sigmas, noise = draw(batch, self.config.stages[batch.stage].timesteps)
        losses = self.losses(batch, sigmas, noise)
        return StepOutput({TRANSFORMER: mean_over_samples(losses, batch.weights.to(losses.device))})

    def losses(self, batch: Batch, sigmas: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """Velocity loss of every sample, [B]. sigmas: [B]; noise: B x [C, h, w]."""
        pack, target = noised_pack(batch.latents, batch.prompt_embeds, sigmas, noise)
        pack, target = pack.to(self.device), target.to(self.device)
        return velocity_loss(self.transformer(pack), target, pack)

    def validate(self, step: int) -> dict[str, float]:
        """Validation loss at the middle of every bin of noise levels, `validation/loss_t<bin>`, and their mean."""
        if not self.validation:
            return {}
        bins = self.config.validation_bins
        found = {}
        for number in range(bins):
            losses = []
            for batch in self.validation:
                sigmas = torch.full((len(batch),), (number + 0.5) / bins)
                losses.append(self.losses(batch, sigmas, draw(batch, TimestepConfig())[1]))
            found[f"validation/loss_t{number}"] = float(torch.cat(losses).double().mean())
        return {"validation/loss": sum(found.values()) / bins, **found}

    def paint(self, step: int) -> Path | None:
        """Held-out captions, beside their pictures, where there is an autoencoder to see them with."""
        return self.grid.paint(self.transformer, step) if self.grid is not None else None

    def step_flops(self, batch: Batch) -> float:
        """Forward and backward of every sample of the batch."""
        model = self.transformer.config
        sizes = zip(batch.latents, batch.prompt_embeds, strict=True)
        return TRAINING_FACTOR * sum(forward_flops(model, image.shape[1] * image.shape[2], text.shape[0]) for image, text in sizes)


def noised_pack(latents: Sequence[Tensor], prompt_embeds: Sequence[Tensor], sigmas: Tensor, noise: Sequence[Tensor]) -> tuple[Pack, Tensor]:
    """Pack of x_t and its velocity target [N, C], both fp32: latents are stored in bf16, their noising must not be rounded again."""
    pack = pack_samples(latents, prompt_embeds, timestep_of(sigmas))
    clean, eps = pack.image_tokens.float(), image_tokens(noise)
    sigma_of_token = sigmas.repeat_interleave(torch.tensor(pack.image_lengths)).unsqueeze(-1)
    return pack.replace_image_tokens(add_noise(clean, eps, sigma_of_token)), velocity_target(clean, eps)


def draw(batch: Batch, timesteps: TimestepConfig) -> tuple[Tensor, list[Tensor]]:
    """Noise level [B] and noise of every sample from the sample's own seed: the pack, process or order it comes in changes nothing."""
    base, noise = [], []
    for latent, seed in zip(batch.latents, batch.noise_seeds, strict=True):
        generator = torch.Generator().manual_seed(seed)
        base.append(draw_base(1, timesteps, generator))
        noise.append(torch.randn(latent.shape, generator=generator))
    return sigmas_of(torch.cat(base), [latent.shape[1] * latent.shape[2] for latent in batch.latents], timesteps), noise


def choose_held_out(dataset: LatentsDataset, count: int) -> frozenset[int]:
    """Indices of all sizes of `count` sample keys, the same for the same data.

    Samples of weight 0 (the validation split), which no training draws, come first. Where there are none, training samples are kept out,
    at most a tenth of the keys.
    """
    weights = dataset.samples["sampling_weight"]
    unseen = sorted({dataset.sample_key(index) for index in np.flatnonzero(weights == 0).tolist()})
    keys = unseen or sorted({dataset.sample_key(index) for index in range(len(dataset))})
    count = min(count, len(unseen) or int(len(keys) * MAX_HELD_OUT_SHARE))
    chosen = {keys[at] for at in stream("held_out", dataset.digest).choice(len(keys), count, replace=False).tolist()} if count else set()
    return frozenset(index for index in range(len(dataset)) if dataset.sample_key(index) in chosen)


def validation_batches(dataset: LatentsDataset, held_out: frozenset[int], pack_tokens: int) -> list[Batch]:
    """Held-out samples with their first caption, as batches of at most `pack_tokens`; corrupt ones are left out."""
    batches: list[Batch] = []
    samples: list[tuple[int, Tensor, Tensor, str, str]] = []

    def flush() -> None:
        if samples:
            batches.append(
                Batch(
                    latents=[sample[1] for sample in samples],
                    prompt_embeds=[sample[2] for sample in samples],
                    weights=torch.ones(len(samples)),
                    sample_keys=tuple(sample[3] for sample in samples),
                    categories=tuple(sample[4] for sample in samples),
                    noise_seeds=tuple(sample[0] for sample in samples),
                    num_tokens=sum(tokens_of(sample[1], sample[2]) for sample in samples),
                )
            )
            samples.clear()

    for index in sorted(held_out):
        try:
            found = dataset.read(index)
        except CorruptSampleError:
            continue
        if sum(tokens_of(sample[1], sample[2]) for sample in samples) + tokens_of(found.latents, found.prompt_embeds) > pack_tokens:
            flush()
        samples.append((index, found.latents, found.prompt_embeds, found.sample_key, found.category))
    flush()
    return batches


def tokens_of(latents: Tensor, prompt_embeds: Tensor) -> int:
    """Image and text tokens of one sample."""
    return latents.shape[1] * latents.shape[2] + prompt_embeds.shape[0]
