"""Groups a pack's segments into few attention batches of nearly equal length."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

# Cost of one more bucket in units of query-key pairs (per head): about the time of launching forward and backward kernels once more.
BUCKET_COST_PAIRS = 16384


@dataclass(frozen=True)
class Bucket:
    """Segments that attend in one batched call.

    start, rows: their contiguous rows in the layout. batch: segments. length: longest of them.
    gather [batch * length]: row (from `start`) for every slot, pads repeat row 0; slots [rows]: slot of every row;
    valid [batch, 1, 1, length] bool: slots that hold a token. All three are None when every segment has this length: then the rows are
    already the batch.
    """

    start: int
    rows: int
    batch: int
    length: int
    gather: Tensor | None
    slots: Tensor | None
    valid: Tensor | None


def plan_buckets(lengths: tuple[int, ...], device: torch.device, bucket_cost: int = BUCKET_COST_PAIRS) -> tuple[Bucket, ...]:
    """Splits ascending segment lengths into buckets with the least padded query-key pairs plus `bucket_cost` for each bucket."""
    groups = [(length, len(list(run))) for length, run in groupby(lengths)]
    counts = [0]
    for _, count in groups:
        counts.append(counts[-1] + count)
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(groups) + 1):
        longest = groups[end - 1][0]
        options = ((best[first][0] + (counts[end] - counts[first]) * longest**2 + bucket_cost, first) for first in range(end))
        best.append(min(options))
    cuts = [len(groups)]
    while cuts[-1] > 0:
        cuts.append(best[cuts[-1]][1])
    buckets, start = [], 0
    for first, end in zip(cuts[:0:-1], cuts[-2::-1], strict=True):
        members = lengths[counts[first] : counts[end]]
        buckets.append(build_bucket(start, members, device))
        start += sum(members)
    return tuple(buckets)


def build_bucket(start: int, lengths: tuple[int, ...], device: torch.device) -> Bucket:
    """Index tables of one bucket; no table when all lengths are equal."""
    batch, length, rows = len(lengths), lengths[-1], sum(lengths)
    if lengths[0] == length:
        return Bucket(start, rows, batch, length, None, None, None)
    sizes = torch.tensor(lengths)
    valid = torch.arange(length) < sizes[:, None]
    slots = valid.flatten().nonzero().squeeze(1)
    gather = torch.zeros(batch * length, dtype=torch.int64)
    gather[slots] = torch.arange(rows)
    return Bucket(start, rows, batch, length, gather.to(device), slots.to(device), valid[:, None, None, :].to(device))
