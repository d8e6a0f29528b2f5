"""Which samples an epoch holds and how they share packs: pure functions of (weights, seed, epoch, data digest, budget, lookahead).

`packed_loader` walks this plan; nothing here reads a sample.
"""

from __future__ import annotations

import hashlib
import heapq
from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Any

import numpy as np

Integers = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


FEISTEL_ROUNDS = 6
MAX_IMBALANCE = 0.02
MAX_EXCHANGES = 6


def stream(*parts: object) -> np.random.Generator:
    """An independent random stream named by its parts."""
    name = "/".join(str(part) for part in parts)
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")))


def hierarchical_weights(weights: Floats, categories: Integers, power: float) -> Floats:
    """Sampling weights [N] whose category totals are raised to `power`; shares inside a category stay as they are.

    power 1 keeps the weights, 0 gives every category that has any weight the same total.
    """
    totals = np.bincount(categories, weights=weights)
    scale = np.divide(totals**power, totals, out=np.zeros_like(totals), where=totals > 0)
    scaled: Floats = weights * scale[categories]
    return scaled


def draw_edges(weights: Floats) -> Floats:
    """Upper edge of every sample's share of [0, N], [N] ascending; computed once for a dataset."""
    total = float(weights.sum())
    assert total > 0, "an epoch needs a positive sampling weight"
    edges: Floats = np.cumsum(weights) * (len(weights) / total)
    # Exactly N from the last sample with a weight on, so that rounding can neither lose an entry nor give one to a weightless sample.
    edges[int(np.flatnonzero(weights)[-1]) :] = len(weights)
    return edges


def draw(edges: Floats, seed: int, epoch: int, digest: str, start: int, end: int) -> Integers:
    """Entries start..end of the realised draw list of one epoch: sample indices in [0, N).

    The whole list holds each sample floor or ceil of N * weight / sum(weights) times: systematic sampling puts marks at j + u over the
    shares, with one random u, where independent draws would repeat some samples and starve others. The marks come in the order of a keyed
    permutation, so any part of the list is computed without the rest: a resume deep in an epoch costs no more than its start.
    """
    random = stream("epoch", seed, epoch, digest)
    offset, keys = random.random(), random.integers(0, 2**63, FEISTEL_ROUNDS, dtype=np.int64).astype(np.uint64)
    marks = permute(np.arange(start, end, dtype=np.uint64), len(edges), keys).astype(np.float64) + offset
    drawn: Integers = np.searchsorted(edges, marks, side="right").astype(np.int64)
    return drawn


def permute(positions: np.ndarray[Any, np.dtype[np.uint64]], num: int, keys: np.ndarray[Any, np.dtype[np.uint64]]) -> Any:
    """A permutation of 0..num-1, evaluated at `positions`: a Feistel network on the next even number of bits, walked back into range.

    Source: cycle walking, Black and Rogaway 2002, "Ciphers with arbitrary finite domains", section 4.
    """
    half = np.uint64(max(1, (int(num - 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half) - np.uint64(1)
    values = positions.copy()
    outside = np.ones(len(values), dtype=bool)
    while outside.any():
        left, right = values[outside] >> half, values[outside] & mask
        for key in keys:
            left, right = right, left ^ (mix(right + key) & mask)
        values[outside] = left << half | right
        outside = values >= num
    return values


def mix(values: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """SplitMix64's output function; unsigned overflow is part of it."""
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)


def window_bounds(num_entries: int, lookahead: int) -> list[tuple[int, int]]:
    """Consecutive windows of `lookahead` entries; a short rest joins the window before it, so that no window fills badly."""
    num_windows = max(1, num_entries // lookahead)
    return [(number * lookahead, num_entries if number == num_windows - 1 else (number + 1) * lookahead) for number in range(num_windows)]


def pack_window(costs: Sequence[int], budget: int) -> list[list[int]]:
    """Shares entries with token costs [n] among packs of at most `budget` tokens; returns positions, fullest pack first.

    Best-fit decreasing finds how many packs are enough; the entries are then spread over that many packs as evenly as
    longest-processing-time scheduling (Graham 1969) does, since equal packs keep ranks equally busy. Every cost is at most the budget.
    """
    assert all(0 < cost <= budget for cost in costs), "an entry must fit into a pack"
    order = sorted(range(len(costs)), key=lambda position: (-costs[position], position))
    fitted = best_fit(order, costs, budget)
    packs = spread(order, costs, len(fitted), budget) or even_out(fitted, costs)
    packs = [sorted(pack) for pack in packs]
    return sorted(packs, key=lambda pack: (-sum(costs[position] for position in pack), pack[0]))


def best_fit(order: Sequence[int], costs: Sequence[int], budget: int) -> list[list[int]]:
    """Puts each entry, in `order`, into the fullest pack with room for it."""
    packs: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # (free tokens, pack), sorted
    for position in order:
        place = bisect_left(rooms, (costs[position], -1))
        if place == len(rooms):
            packs.append([])
            room, pack = budget, len(packs) - 1
        else:
            room, pack = rooms.pop(place)
        packs[pack].append(position)
        insort(rooms, (room - costs[position], pack))
    return packs


def spread(order: Sequence[int], costs: Sequence[int], num_packs: int, budget: int) -> list[list[int]] | None:
    """Puts each entry, in `order`, into the emptiest of `num_packs` packs; None when one would exceed the budget."""
    packs: list[list[int]] = [[] for _ in range(num_packs)]
    loads = [(0, pack) for pack in range(num_packs)]
    for position in order:
        load, pack = heapq.heappop(loads)
        if load + costs[position] > budget:
            return None
        packs[pack].append(position)
        heapq.heappush(loads, (load + costs[position], pack))
    return packs


def even_out(packs: Sequence[Sequence[int]], costs: Sequence[int]) -> list[list[int]]:
    """Moves or swaps entries between the fullest and the emptiest pack until they are within MAX_IMBALANCE or nothing helps.

    For packs so tight that spreading from nothing overflows: no pack grows beyond the fullest one, so none exceeds the budget.
    """
    even = [list(pack) for pack in packs]
    loads = [sum(costs[position] for position in pack) for pack in even]
    for _ in range(MAX_EXCHANGES * len(even)):
        full, empty = loads.index(max(loads)), loads.index(min(loads))
        gap = loads[full] - loads[empty]
        if gap <= MAX_IMBALANCE * loads[full]:
            break
        # Giving nothing back is a move; the best exchange brings both to the middle.
        given = np.array([costs[position] for position in even[full]])
        taken = np.array([0, *(costs[position] for position in even[empty])])
        gains = given[:, None] - taken[None, :]
        distance = np.where((gains > 0) & (gains < gap), np.abs(gains - gap / 2), np.inf)
        here, there = np.unravel_index(int(distance.argmin()), distance.shape)
        if not np.isfinite(distance[here, there]):
            break
        moved = even[full].pop(int(here))
        if there:
            even[full].append(even[empty].pop(int(there) - 1))
        even[empty].append(moved)
        loads[full] -= int(gains[here, there])
        loads[empty] += int(gains[here, there])
    return even


def deal(costs: Sequence[int], world_size: int) -> list[list[int]]:
    """Deals the packs of one optimizer step, with token costs [P], to ranks: equal counts, near equal tokens.

    The step's set of packs does not depend on world_size, only who computes them does.
    """
    assert len(costs) % world_size == 0, "packs per step must be a multiple of the world size"
    order = sorted(range(len(costs)), key=lambda pack: (-costs[pack], pack))
    hands: list[list[int]] = [[] for _ in range(world_size)]
    loads = [0] * world_size
    for first in range(0, len(order), world_size):
        # The largest pack of a round goes to the rank that carries least so far.
        ranks = sorted(range(world_size), key=lambda rank: (loads[rank], rank))
        for pack, rank in zip(order[first : first + world_size], ranks, strict=True):
            hands[rank].append(pack)
            loads[rank] += costs[pack]
    return hands


def choose_captions(first: Integers, counts: Integers, weights: Floats, dropout: float, random: np.random.Generator) -> Integers:
    """Caption number of each entry, [n]: drawn by form weight, or -1 (the encoded empty prompt) with probability `dropout`.

    first, counts [n]: the entry's range in the table of captions. weights [captions]: weight of each caption's form.
    """
    drops, points = random.random(len(first)), random.random(len(first))
    numbers = np.arange(int(counts.max()))
    held = numbers < counts[:, None]
    shares = np.where(held, weights[np.minimum(first[:, None] + numbers, len(weights) - 1)], 0.0)
    # A sample whose forms all weigh 0 still has captions to choose from.
    shares = np.where(shares.sum(axis=1, keepdims=True) > 0, shares, held.astype(np.float64))
    edges = shares.cumsum(axis=1)
    chosen: Integers = np.minimum((edges <= points[:, None] * edges[:, -1:]).sum(axis=1), counts - 1)
    chosen[drops < dropout] = -1
    return chosen
