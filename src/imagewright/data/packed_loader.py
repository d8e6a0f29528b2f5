"""Feeds training: walks the packing plan, reads verified samples, hands each rank its packs of every optimizer step.

The position is three integers. Every random choice of a sample (noise, timestep) comes from the seed of its draw entry,
so the same entry trains the same way in any pack, on any rank and after any resume.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from imagewright.config.batching import BatchingConfig
from imagewright.data.latents import LatentsDataset
from imagewright.data.packing_plan import (
    Integers,
    choose_captions,
    deal,
    draw,
    draw_edges,
    hierarchical_weights,
    mix,
    pack_window,
    stream,
    window_bounds,
)
from imagewright.errors import InputError, Problem


class LoaderError(InputError):
    """A budget, world size or state that does not fit the data."""


@dataclass(frozen=True)
class PackEntry:
    """One drawn sample of a pack. caption -1 is the encoded empty prompt. position: place in the epoch's draw list."""

    index: int
    caption: int
    tokens: int
    epoch: int
    position: int


@dataclass(frozen=True)
class Batch:
    """One pack's samples. latents: B x [C, h, w]; prompt_embeds: B x [T, D]; weights [B]: 1, or 0 for a stand-in that must not train."""

    latents: list[Tensor]
    prompt_embeds: list[Tensor]
    weights: Tensor
    sample_keys: tuple[str, ...]
    categories: tuple[str, ...]
    noise_seeds: tuple[int, ...]
    """One seed per sample: all its random numbers in this step come from it."""
    num_tokens: int
    stage: int = 0

    def __len__(self) -> int:
        return len(self.latents)

    @property
    def num_samples(self) -> int:
        """Samples that count in the loss."""
        return int(self.weights.sum())


class PackedLoader:
    """Endless stream of optimizer steps over the epochs of one dataset."""

    def __init__(
        self,
        dataset: LatentsDataset,
        config: BatchingConfig,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        resolution: int = 0,
        stage: int = 0,
        held_out: frozenset[int] = frozenset(),
        on_corrupt: Callable[[str], None] | None = None,
    ) -> None:
        """resolution: takes the samples of this size only (0: all). held_out: samples never drawn.
        on_corrupt is told the key of every quarantined sample.

        Raises LoaderError when packs_per_step cannot be dealt evenly or a sample exceeds pack_tokens.
        """
        self.dataset, self.config, self.seed = dataset, config, seed
        self.rank, self.world_size, self.stage, self.on_corrupt = rank, world_size, stage, on_corrupt
        self.chosen: Integers = dataset.at_resolution(resolution) if resolution else np.arange(len(dataset))
        self.costs_of_image = dataset.image_tokens()[self.chosen]
        self.caption_weights = np.array([config.caption_forms.get(form, 1.0) for form in dataset.index.forms])[dataset.captions["form"]]
        self.check()
        rows = dataset.samples[self.chosen]
        given, categories = rows["sampling_weight"].astype(np.float64), rows["category"].astype(np.int64)
        kept = ~np.isin(self.chosen, sorted(held_out))
        self.weights = hierarchical_weights(given * kept, categories, config.category_power)
        if not self.weights.sum() > 0:
            raise LoaderError(Problem("latents", "sampling weights must not all be 0", fix="check the sampling step of curation"))
        self.quarantined: set[str] = set()
        self.epoch, self.window, self.pack = 0, 0, 0
        self.edges = draw_edges(self.weights)
        self.noise_key = stream("noise", seed, stage, dataset.digest).integers(0, 2**63, 1).astype(np.uint64)
        self.planned: tuple[int, int] = (-1, -1)
        self.packs: list[list[PackEntry]] = []

    def check(self) -> None:
        """Refuses settings that could not feed every rank or hold every sample."""
        problems = []
        if self.config.packs_per_step % self.world_size:
            fix = "raise packs_per_step to a multiple of the number of processes"
            problems.append(
                Problem("batching.packs_per_step", f"must be a multiple of {self.world_size} ranks", self.config.packs_per_step, fix)
            )
        tokens, starts = self.dataset.captions["tokens"], self.dataset.samples["first_caption"].astype(np.int64)
        longest = np.maximum.reduceat(tokens, starts)[self.chosen].astype(np.int64)
        largest = int((self.costs_of_image + np.maximum(longest, len(self.dataset.empty_prompt))).max())
        if largest > self.config.pack_tokens:
            fix = f"set batching.pack_tokens to at least {largest}"
            problems.append(
                Problem("batching.pack_tokens", f"must hold the largest sample of {largest} tokens", self.config.pack_tokens, fix)
            )
        if problems:
            raise LoaderError(problems)

    def next_step(self) -> list[Batch]:
        """The batches of this rank for the next optimizer step; advances the position of all ranks alike."""
        packs = [self.next_pack() for _ in range(self.config.packs_per_step)]
        hand = deal([sum(entry.tokens for entry in pack) for pack in packs], self.world_size)[self.rank]
        return [self.load(packs[number]) for number in hand]

    def next_pack(self) -> list[PackEntry]:
        """The next pack of the global stream."""
        self.plan()
        while self.pack >= len(self.packs):
            self.window, self.pack = self.window + 1, 0
            if self.window >= self.num_windows():
                self.epoch, self.window = self.epoch + 1, 0
            self.plan()
        self.pack += 1
        return self.packs[self.pack - 1]

    def num_windows(self) -> int:
        """Windows of an epoch."""
        return len(window_bounds(len(self.chosen), self.config.lookahead))

    def plan(self) -> None:
        """Packs the current window unless that is done."""
        if self.planned == (self.epoch, self.window):
            return
        start, end = window_bounds(len(self.chosen), self.config.lookahead)[self.window]
        drawn = draw(self.edges, self.seed, self.epoch, self.dataset.digest, start, end)
        rows = self.dataset.samples[self.chosen[drawn]]
        first, counts = rows["first_caption"].astype(np.int64), rows["num_captions"].astype(np.int64)
        random = stream("captions", self.seed, self.epoch, start, self.dataset.digest)
        captions = choose_captions(first, counts, self.caption_weights, self.config.caption_dropout, random)
        texts = np.where(captions < 0, len(self.dataset.empty_prompt), self.dataset.captions["tokens"][first + captions.clip(0)])
        costs = (self.costs_of_image[drawn] + texts.astype(np.int64)).tolist()
        indices, numbers = self.chosen[drawn].tolist(), captions.tolist()
        packs = pack_window(costs, self.config.pack_tokens)
        # Windows end as full as the next one begins: the packs of a step that spans two of them stay near in size.
        if self.window % 2:
            packs.reverse()
        self.packs = [[PackEntry(indices[at], numbers[at], costs[at], self.epoch, start + at) for at in pack] for pack in packs]
        self.planned = (self.epoch, self.window)

    def load(self, pack: list[PackEntry]) -> Batch:
        """Reads a pack. A corrupt sample is left out and quarantined; a pack that loses all of them keeps one stand-in of weight 0.

        The stand-in keeps the ranks in step: each must run as many forward passes as the others.
        """
        found, kept = [], []
        read = self.dataset.read_pack([entry.index for entry in pack], [entry.caption for entry in pack])
        for entry, sample in zip(pack, read, strict=True):
            if sample is None:
                self.quarantine(self.dataset.sample_key(entry.index))
            else:
                found.append(sample)
                kept.append(entry)
        weights = torch.ones(len(found))
        latents, embeds = [sample.latents for sample in found], [sample.prompt_embeds for sample in found]
        if not found:
            shape = (self.dataset.contract.channels, 1, 1)
            latents, embeds, weights = [torch.zeros(shape, dtype=self.dataset.torch_dtype)], [self.dataset.empty_prompt], torch.zeros(1)
        return Batch(
            latents=latents,
            prompt_embeds=embeds,
            weights=weights,
            sample_keys=tuple(sample.sample_key for sample in found) or ("",),
            categories=tuple(sample.category for sample in found) or ("",),
            noise_seeds=self.noise_seeds(kept) or (0,),
            num_tokens=sum(entry.tokens for entry in kept),
            stage=self.stage,
        )

    def noise_seeds(self, entries: list[PackEntry]) -> tuple[int, ...]:
        """63-bit seed of every draw entry: a keyed mix of its epoch and position, so neighbouring entries are independent."""
        parts = np.array([[entry.epoch, entry.position] for entry in entries], dtype=np.uint64).reshape(-1, 2)
        mixed = mix(mix(parts[:, 0] + self.noise_key) + parts[:, 1])
        return tuple((mixed >> np.uint64(1)).tolist())

    def quarantine(self, key: str) -> None:
        """Notes a corrupt sample once."""
        if key not in self.quarantined:
            self.quarantined.add(key)
            if self.on_corrupt is not None:
                self.on_corrupt(key)

    def state(self) -> dict[str, int]:
        """The position: everything needed to continue after the last step handed out."""
        return {"epoch": self.epoch, "window": self.window, "pack": self.pack}

    def load_state(self, state: dict[str, int]) -> None:
        """Continues from a saved position. Only the current window is planned again."""
        if set(state) != {"epoch", "window", "pack"} or min(state.values()) < 0 or state["window"] >= self.num_windows():
            raise LoaderError(Problem("loader.state", "does not fit this dataset", state, "resume with the data the run was started with"))
        self.epoch, self.window, self.pack = state["epoch"], state["window"], state["pack"]
