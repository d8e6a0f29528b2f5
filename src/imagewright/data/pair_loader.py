"""Feeds preference training: optimizer steps over shuffled epochs of pairs, every random number tied to the drawn pair."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from imagewright.data.latents import LatentsDataset
from imagewright.data.packed_loader import LoaderError
from imagewright.data.packing_plan import mix, stream
from imagewright.data.preferences import Pair, index_of
from imagewright.errors import Problem

HASH_RANGE = 1 << 32


@dataclass(frozen=True)
class PairBatch:
    """Pairs of one forward pass. chosen, rejected: B x [C, h, w] of equal shapes inside a pair; prompt_embeds: B x [T, D]."""

    chosen: list[Tensor]
    rejected: list[Tensor]
    prompt_embeds: list[Tensor]
    noise_seeds: tuple[int, ...]
    """One seed per pair: both members get its noise and its noise level."""
    pair_ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def num_samples(self) -> int:
        """Pairs, all of which count."""
        return len(self.chosen)

    @property
    def num_tokens(self) -> int:
        """Image and text tokens of both members."""
        return 2 * sum(
            latent.shape[1] * latent.shape[2] + text.shape[0] for latent, text in zip(self.chosen, self.prompt_embeds, strict=True)
        )


def read_batch(dataset: LatentsDataset, places: dict[str, int], pairs: Sequence[Pair], seeds: Sequence[int]) -> PairBatch:
    """Reads pairs. Raises CorruptSampleError for a sample that does not match its checksum."""
    chosen = [dataset.read(places[pair.chosen_key]) for pair in pairs]
    rejected = [dataset.read(places[pair.rejected_key]) for pair in pairs]
    return PairBatch(
        [sample.latents for sample in chosen],
        [sample.latents for sample in rejected],
        [sample.prompt_embeds for sample in chosen],
        tuple(seeds),
        tuple(pair.pair_id for pair in pairs),
    )


def split_held_out(pairs: Sequence[Pair], fraction: float) -> tuple[list[Pair], list[Pair]]:
    """(training, held out) by a hash of the prompt: pairs of one prompt are on one side, whatever else is in the set."""
    training: list[Pair] = []
    held_out: list[Pair] = []
    for pair in pairs:
        place = int.from_bytes(hashlib.sha256(f"held_out/{pair.prompt}".encode()).digest()[:4], "big") / HASH_RANGE
        (held_out if place < fraction else training).append(pair)
    return training, held_out


class PairLoader:
    """Endless stream of optimizer steps; each process gets every world_size-th pair of a step."""

    def __init__(
        self,
        dataset: LatentsDataset,
        pairs: Sequence[Pair],
        *,
        pairs_per_step: int,
        pairs_per_pack: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Raises LoaderError when there is no pair, or pairs_per_step cannot be dealt evenly."""
        if not pairs or pairs_per_step % world:
            rule = f"must be a multiple of {world} processes, over at least one pair"
            raise LoaderError(
                Problem("dpo.pairs_per_step", rule, [pairs_per_step, len(pairs)], "change pairs_per_step or build more pairs")
            )
        self.dataset, self.pairs, self.places = dataset, list(pairs), index_of(dataset)
        self.pairs_per_step, self.pairs_per_pack, self.seed, self.rank, self.world = pairs_per_step, pairs_per_pack, seed, rank, world
        self.position = 0
        self.noise_key = stream("dpo noise", seed, dataset.digest).integers(0, 2**63, 1).astype(np.uint64)

    def next_step(self) -> list[PairBatch]:
        """This process's pairs of the next optimizer step."""
        mine = range(self.position + self.rank, self.position + self.pairs_per_step, self.world)
        self.position += self.pairs_per_step
        drawn = [(self.pair_at(place), self.seed_at(place)) for place in mine]
        chunks = [drawn[start : start + self.pairs_per_pack] for start in range(0, len(drawn), self.pairs_per_pack)]
        return [read_batch(self.dataset, self.places, [pair for pair, _ in chunk], [seed for _, seed in chunk]) for chunk in chunks]

    def pair_at(self, place: int) -> Pair:
        """The pair at a place of the endless stream: every epoch is a fresh order of all pairs."""
        epoch, position = divmod(place, len(self.pairs))
        order = stream("dpo order", self.seed, epoch, self.dataset.digest).permutation(len(self.pairs))
        return self.pairs[int(order[position])]

    def seed_at(self, place: int) -> int:
        """63-bit noise seed of a place."""
        return int((mix(np.array([place], dtype=np.uint64) + self.noise_key) >> np.uint64(1))[0])

    def state(self) -> dict[str, int]:
        """Pairs handed out so far."""
        return {"position": self.position}

    def load_state(self, state: dict[str, int]) -> None:
        """Continues from a position."""
        if set(state) != {"position"} or state["position"] < 0:
            raise LoaderError(Problem("loader.state", "does not fit these pairs", state, "resume with the data the run was started with"))
        self.position = state["position"]
