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


def draw_epoch(weights: Floats, seed: int, epoch: int, digest: str) -> Integers:
    """The realised draw list of one epoch: N indices in [0, N), each drawn floor or ceil of N * weight / sum(weights) times.

    Systematic sampling (one random offset over the cumulative weights) keeps every count within one of its expectation, where
    independent draws would repeat some samples and starve others; the list is then shuffled.
    """
    total = float(weights.sum())
    assert total > 0, "an epoch needs a positive sampling weight"
    random = stream("epoch", seed, epoch, digest)
    num = len(weights)
    # Cumulative shares end exactly at num, so that rounding cannot lose the last entry.
    edges = np.cumsum(weights) * (num / total)
    edges[-1] = num
    marks = np.ceil(edges - random.random()).astype(np.int64).clip(0, num)
    marks[-1] = num
    drawn = np.repeat(np.arange(num, dtype=np.int64), np.diff(marks, prepend=0))
    random.shuffle(drawn)
    return drawn


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
    packs = spread(order, costs, len(fitted), budget) or fitted
    packs = [sorted(pack) for pack in packs if pack]
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
