"""Feeds distillation with prompts alone: images of the latents are ignored, their captions, sizes and domains are used.

A round's prompts are handed out once for every turn of the round, so that one rollout serves them all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from imagewright.data.latents import CorruptSampleError, LatentsDataset
from imagewright.data.packing_plan import stream
from imagewright.errors import InputError, Problem

MAX_TRIES = 100


class PromptError(InputError):
    """A prompt set that cannot be drawn from."""


@dataclass(frozen=True)
class PromptBatch:
    """Prompts B x [T, D] of one turn. sizes: latent (h, w). number: which draw of prompts this is; turn: 0 .. turns - 1 in its round."""

    prompt_embeds: list[Tensor]
    sizes: list[tuple[int, int]]
    domains: tuple[str, ...]
    noise_seeds: tuple[int, ...]
    number: int
    turn: int

    @property
    def num_samples(self) -> int:
        """Prompts."""
        return len(self.prompt_embeds)

    @property
    def num_tokens(self) -> int:
        """Image and text tokens of one pass."""
        return sum(h * w + len(prompt) for (h, w), prompt in zip(self.sizes, self.prompt_embeds, strict=True))


@dataclass
class TurnCounter:
    """Steps done, shared by the loader (which deals the turns) and the method (whose checkpoint keeps them)."""

    turns: int
    steps: int = 0
    renew: bool = False
    """Set when the steps were put back: the prompts that led astray are not handed out again."""

    @property
    def turn(self) -> int:
        """Turn of the next step."""
        return self.steps % self.turns

    @property
    def round(self) -> int:
        """Number of the round in which the latest step was, from 0."""
        return max(0, self.steps - 1) // self.turns

    def put_back(self, steps: int) -> None:
        """Continues from an earlier step."""
        self.steps, self.renew = steps, True


class PromptLoader:
    """Endless rounds of prompts; domains are drawn alike, prompts inside a domain by their sampling weight."""

    def __init__(self, dataset: LatentsDataset, counter: TurnCounter, *, count: int, seed: int, rank: int = 0, first: int = 0) -> None:
        """count: prompts of each process in a round. first: number of the first draw. Raises PromptError for an empty prompt set."""
        weights = dataset.samples["sampling_weight"].astype(np.float64)
        if not len(dataset) or not weights.sum() > 0:
            raise PromptError(Problem("latents", "hold no prompt to distil from", str(dataset.folder), "encode data that has captions"))
        self.dataset, self.counter, self.count, self.seed, self.rank = dataset, counter, count, seed, rank
        categories = dataset.samples["category"].astype(np.int64)
        self.groups = [np.flatnonzero((categories == number) & (weights > 0)) for number in range(len(dataset.index.categories))]
        self.groups = [group for group in self.groups if len(group)]
        self.edges = [np.cumsum(weights[group]) for group in self.groups]
        self.position = first
        self.drawn: PromptBatch | None = None

    def next_step(self) -> list[PromptBatch]:
        """The prompts of the next turn, as one micro-batch."""
        turn = self.counter.turn
        if turn == 0 or self.counter.renew:
            self.position += 1
            self.counter.renew = False
        self.counter.steps += 1
        if self.drawn is None or self.drawn.number != self.position:
            self.drawn = self.draw(self.position)
        return [replace(self.drawn, turn=turn)]

    def draw(self, number: int) -> PromptBatch:
        """Draw `number` of this process; a pure function of the data, the seed and the number."""
        random = stream("prompts", self.seed, number, self.rank, self.dataset.digest)
        prompts: list[Tensor] = []
        sizes, domains = [], []
        for _ in range(self.count * MAX_TRIES):
            if len(prompts) == self.count:
                break
            chosen = int(random.integers(len(self.groups)))
            edges = self.edges[chosen]
            index = int(self.groups[chosen][min(int(np.searchsorted(edges, random.random() * edges[-1], side="right")), len(edges) - 1)])
            row = self.dataset.samples[index]
            try:
                found = self.dataset.read(index, int(random.integers(int(row["num_captions"]))))
            except CorruptSampleError:
                continue
            prompts.append(found.prompt_embeds.float())
            sizes.append((int(row["height"]), int(row["width"])))
            domains.append(found.category)
        if len(prompts) < self.count:
            raise PromptError(Problem("latents", "hold too few readable prompts", len(prompts), "fetch or encode the data again"))
        seeds = tuple(int(seed) for seed in random.integers(0, 2**62, self.count))
        return PromptBatch(prompts, sizes, tuple(domains), seeds, number, 0)

    def state(self) -> dict[str, int]:
        """The draw in use."""
        return {"position": self.position}

    def load_state(self, state: dict[str, int]) -> None:
        """Continues with the same prompts."""
        self.position = state["position"]
        self.counter.renew = False
