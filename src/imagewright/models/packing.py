"""Turns samples of mixed size and prompt length into one pack, the only input form of the DiT, and back.

Users of a pack see samples in the order they were given. Inside, `Layout` sorts segments by length so that attention runs on
equal-length groups which are plain views of the token matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from imagewright.errors import InputError, Problem
from imagewright.models.buckets import Bucket, plan_buckets


@dataclass(frozen=True)
class Layout:
    """Where every token of a pack goes. Rows: one sample after the other, image tokens first, then its text, shortest sample first.

    rows: number of tokens, image and text. order: samples in row order. segment_ids [rows]: sample (pack order) of every row.
    position_ids [rows, 3]: (text position, y, x) as fp32.
    image_rows [N], text_rows [M]: row of every image or text token, pack order.
    source [rows]: row of cat(image tokens, text tokens) that fills each row. cu_lengths [B + 1] int32: segment starts, row order.
    image_segment_ids [N]: sample of every image token, pack order.
    """

    rows: int
    order: tuple[int, ...]
    buckets: tuple[Bucket, ...]
    max_length: int
    segment_ids: Tensor
    position_ids: Tensor
    image_rows: Tensor
    text_rows: Tensor
    source: Tensor
    cu_lengths: Tensor
    image_segment_ids: Tensor


@dataclass(frozen=True)
class Pack:
    """One sequence of concatenated samples without padding.

    image_tokens: [N, C], rows of a latent first (y-major). text_tokens: [M, D]. timesteps: [B], 0..1000, kept in fp32.
    sizes: (h, w) of every latent. text_lengths: prompt tokens of every sample.
    """

    image_tokens: Tensor
    text_tokens: Tensor
    timesteps: Tensor
    sizes: tuple[tuple[int, int], ...]
    text_lengths: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def image_lengths(self) -> tuple[int, ...]:
        """Image tokens of every sample."""
        return tuple(h * w for h, w in self.sizes)

    @property
    def num_tokens(self) -> int:
        """Image and text tokens together."""
        return self.image_tokens.shape[0] + self.text_tokens.shape[0]

    @property
    def layout(self) -> Layout:
        """Index tables on the pack's device; built once for a shape and shared by every pack of that shape."""
        return build_layout(self.sizes, self.text_lengths, self.image_tokens.device)

    @property
    def image_segment_ids(self) -> Tensor:
        """Sample number of every image token, [N] int64."""
        return self.layout.image_segment_ids

    def replace_image_tokens(self, image_tokens: Tensor, timesteps: Tensor | None = None) -> Pack:
        """The same prompts and sizes with other image tokens [N, C] (and timesteps [B])."""
        assert image_tokens.shape == self.image_tokens.shape, "image tokens must keep their shape"
        return replace(self, image_tokens=image_tokens, timesteps=self.timesteps if timesteps is None else timesteps)

    def spread(self, per_sample: Tensor) -> Tensor:
        """Repeats one value per sample for each of its image tokens: [B] -> [N, 1]."""
        return per_sample[self.image_segment_ids].unsqueeze(-1)

    def mean_per_sample(self, values: Tensor) -> Tensor:
        """Mean over the tokens and channels of each sample: [N, C] -> [B], in fp32 because long sums lose digits in bf16."""
        token_means = values.float().mean(dim=-1)
        sums = torch.zeros(len(self), dtype=torch.float32, device=values.device).index_add(0, self.image_segment_ids, token_means)
        return sums / torch.tensor(self.image_lengths, dtype=torch.float32, device=values.device)

    def unpack(self, tokens: Tensor) -> list[Tensor]:
        """Image tokens [N, C] in pack order -> one latent [C, h, w] per sample."""
        pieces = torch.split(tokens, list(self.image_lengths))
        return [piece.t().reshape(-1, h, w) for piece, (h, w) in zip(pieces, self.sizes, strict=True)]

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Pack:
        """Moves the pack; `dtype` is for tokens only, timesteps stay fp32 (bf16 turns 965.52 into 964)."""
        return replace(
            self,
            image_tokens=self.image_tokens.to(device=device, dtype=dtype),
            text_tokens=self.text_tokens.to(device=device, dtype=dtype),
            timesteps=self.timesteps.to(device=device),
        )


def pack_samples(latents: Sequence[Tensor], prompt_embeds: Sequence[Tensor], timesteps: Tensor) -> Pack:
    """Packs latents [C, h, w] with prompt embeddings [T, D] and timesteps [B] (0..1000).

    Raises InputError when counts, channels or widths disagree, or a prompt has no token (an empty prompt is its BOS embedding).
    """
    check_samples(latents, prompt_embeds, timesteps)
    return Pack(
        image_tokens=image_tokens(latents),
        text_tokens=torch.cat(list(prompt_embeds)),
        timesteps=timesteps.float(),
        sizes=tuple((latent.shape[1], latent.shape[2]) for latent in latents),
        text_lengths=tuple(prompt.shape[0] for prompt in prompt_embeds),
    )


def image_tokens(latents: Sequence[Tensor]) -> Tensor:
    """Latents [C, h, w] -> tokens [N, C] of all of them, sample after sample, rows of a latent first."""
    return torch.cat([latent.flatten(1).t() for latent in latents])


def check_samples(latents: Sequence[Tensor], prompt_embeds: Sequence[Tensor], timesteps: Tensor) -> None:
    """Raises InputError with every sample that cannot be packed."""
    if not len(latents) or not len(latents) == len(prompt_embeds) == timesteps.numel():
        counts = f"{len(latents)} latents, {len(prompt_embeds)} prompts, {timesteps.numel()} timesteps"
        raise InputError(Problem("pack", "needs at least one sample, and one latent, prompt and timestep for each", counts))
    problems = []
    for index, latent in enumerate(latents):
        if latent.ndim != 3 or latent.numel() == 0 or latent.shape[0] != latents[0].shape[0]:
            rule = f"must be [C, h, w] with C = {latents[0].shape[0]} and no empty side"
            problems.append(Problem(f"pack.latents.{index}", rule, tuple(latent.shape), "encode it with the VAE of the others"))
    for index, prompt in enumerate(prompt_embeds):
        if prompt.ndim != 2 or prompt.numel() == 0 or prompt.shape[1] != prompt_embeds[0].shape[-1]:
            rule = f"must be [T, D] with T >= 1 and D = {prompt_embeds[0].shape[-1]}"
            fix = "encode it with the text encoder of the others; an empty prompt is its BOS embedding"
            problems.append(Problem(f"pack.prompt_embeds.{index}", rule, tuple(prompt.shape), fix))
    if problems:
        raise InputError(problems)


def join_packs(first: Pack, second: Pack) -> Pack:
    """One pack with the samples of `first`, then those of `second`."""
    return Pack(
        image_tokens=torch.cat([first.image_tokens, second.image_tokens]),
        text_tokens=torch.cat([first.text_tokens, second.text_tokens]),
        timesteps=torch.cat([first.timesteps, second.timesteps]),
        sizes=first.sizes + second.sizes,
        text_lengths=first.text_lengths + second.text_lengths,
    )


def take_samples(pack: Pack, indices: Sequence[int]) -> Pack:
    """The pack of some samples, in the order of `indices`."""
    assert len(indices), "a pack holds at least one sample"
    image = torch.split(pack.image_tokens, list(pack.image_lengths))
    text = torch.split(pack.text_tokens, list(pack.text_lengths))
    return Pack(
        image_tokens=torch.cat([image[index] for index in indices]),
        text_tokens=torch.cat([text[index] for index in indices]),
        timesteps=pack.timesteps[list(indices)],
        sizes=tuple(pack.sizes[index] for index in indices),
        text_lengths=tuple(pack.text_lengths[index] for index in indices),
    )


@lru_cache(maxsize=32)
def build_layout(sizes: tuple[tuple[int, int], ...], text_lengths: tuple[int, ...], device: torch.device) -> Layout:
    """Index tables of a pack. Pure in its arguments; cached because samplers and distillation run the same shape many times."""
    image_lengths = torch.tensor([h * w for h, w in sizes])
    text = torch.tensor(text_lengths)
    lengths = image_lengths + text
    order = torch.argsort(lengths, stable=True)
    starts = torch.empty_like(lengths)
    starts[order] = lengths[order].cumsum(0) - lengths[order]  # first row of every sample, pack order
    image_rows, image_ids = ragged_rows(image_lengths, starts)
    text_rows, text_ids = ragged_rows(text, starts + image_lengths)
    rows = int(lengths.sum())

    segment_ids = torch.empty(rows, dtype=torch.int64)
    segment_ids[image_rows], segment_ids[text_rows] = image_ids, text_ids
    source = torch.empty(rows, dtype=torch.int64)
    source[torch.cat([image_rows, text_rows])] = torch.arange(rows)

    widths = torch.tensor([w for _, w in sizes])[image_ids]
    offsets = image_rows - starts[image_ids]
    position_ids = torch.zeros(rows, 3, dtype=torch.float32)
    position_ids[image_rows] = torch.stack([text[image_ids], offsets // widths, offsets % widths], dim=1).float()
    position_ids[text_rows, 0] = (text_rows - (starts + image_lengths)[text_ids]).float()

    sorted_lengths = lengths[order]
    cu_lengths = torch.cat([torch.zeros(1, dtype=torch.int64), sorted_lengths.cumsum(0)]).to(torch.int32)
    return Layout(
        rows=rows,
        order=tuple(order.tolist()),
        buckets=plan_buckets(tuple(sorted_lengths.tolist()), device),
        max_length=int(sorted_lengths[-1]),
        segment_ids=segment_ids.to(device),
        position_ids=position_ids.to(device),
        image_rows=image_rows.to(device),
        text_rows=text_rows.to(device),
        source=source.to(device),
        cu_lengths=cu_lengths.to(device),
        image_segment_ids=image_ids.to(device),
    )


def ragged_rows(lengths: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Rows start..start+length of every sample, concatenated, and the sample of each: two [sum of lengths] tensors."""
    ids = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    within = torch.arange(len(ids)) - (lengths.cumsum(0) - lengths)[ids]
    return starts[ids] + within, ids
