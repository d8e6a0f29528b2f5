"""Tiny DiTs next to diffusers' own class: same random weights, every parameter non-zero (fresh models output 0 and prove nothing)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import ErnieImageTransformer2DModel
from torch import Tensor

from imagewright.config.model import ModelConfig
from imagewright.models.dit import ErnieImageDiT
from imagewright.models.packing import Pack, pack_samples

TINY = ModelConfig(
    hidden_size=64,
    num_layers=2,
    num_attention_heads=4,
    ffn_hidden_size=96,
    in_channels=8,
    out_channels=8,
    text_in_dim=40,
    rope_axes_dim=(4, 6, 6),
)


@dataclass
class Case:
    """One batch of samples for both models."""

    latents: list[Tensor]
    prompts: list[Tensor]
    timesteps: Tensor

    def pack(self) -> Pack:
        return pack_samples(self.latents, self.prompts, self.timesteps)

    def subset(self, indices: list[int]) -> Case:
        return Case([self.latents[i] for i in indices], [self.prompts[i] for i in indices], self.timesteps[indices])


def randomise(model: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            spread = 0.5 if parameter.ndim == 1 else 1.5 / parameter[0].numel() ** 0.5
            parameter.copy_(spread * torch.randn(parameter.shape, generator=generator) + (0.5 if parameter.ndim == 1 else 0.0))


def build_pair(config: ModelConfig, seed: int = 0) -> tuple[ErnieImageDiT, ErnieImageTransformer2DModel]:
    ours, theirs = ErnieImageDiT(config), ErnieImageTransformer2DModel(**config.model_dump())
    randomise(ours, seed)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def build_case(config: ModelConfig, sizes: list[tuple[int, int]], text_lengths: list[int], seed: int = 0) -> Case:
    generator = torch.Generator().manual_seed(seed)
    latents = [torch.randn(config.in_channels, h, w, generator=generator) for h, w in sizes]
    prompts = [torch.randn(length, config.text_in_dim, generator=generator) for length in text_lengths]
    return Case(latents, prompts, 1000 * torch.rand(len(sizes), generator=generator))


def run_reference(model: ErnieImageTransformer2DModel, case: Case, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """diffusers' model on each group of equal size, prompts padded to the longest of the group."""
    outputs: list[Tensor] = [torch.empty(0)] * len(case.latents)
    sizes = [latent.shape for latent in case.latents]
    for size in dict.fromkeys(sizes):
        group = [index for index, other in enumerate(sizes) if other == size]
        text = torch.nn.utils.rnn.pad_sequence([case.prompts[i] for i in group], batch_first=True).to(dtype)
        lengths = torch.tensor([len(case.prompts[i]) for i in group])
        latents = torch.stack([case.latents[i] for i in group]).to(dtype)
        predicted = model(latents, case.timesteps[group], text, lengths, return_dict=False)[0]
        for row, index in enumerate(group):
            outputs[index] = predicted[row]
    return outputs


def flat(outputs: list[Tensor]) -> Tensor:
    return torch.cat([output.flatten() for output in outputs])
