"""How far a distribution moved between two manifests, for a person who decides whether a new revision is fit to train on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

NUM_BINS = 10
NUM_MOVERS = 8
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MIN_SHARE = 1e-4
"""Shares below this count as this in the PSI, so that an empty bin does not make it infinite."""


@dataclass(frozen=True)
class CategoryShift:
    """A column of words. values: (value, rows before, rows after), the largest moves of share first; num_values counts all."""

    column: str
    divergence: float
    """Jensen-Shannon divergence in bits: 0 the same, 1 nothing in common."""
    num_values: int
    values: tuple[tuple[str, int, int], ...]
    total_before: int
    total_after: int


@dataclass(frozen=True)
class NumberShift:
    """A column of numbers; empty cells are left out. Quantiles are those of QUANTILES."""

    column: str
    stability_index: float
    """Population stability index over the deciles of `before`: under 0.1 is read as stable, over 0.25 as another distribution."""
    count_before: int
    count_after: int
    mean_before: float
    mean_after: float
    quantiles_before: tuple[float, ...]
    quantiles_after: tuple[float, ...]


def jensen_shannon(before: Sequence[int], after: Sequence[int]) -> float:
    """Jensen-Shannon divergence of two histograms over the same values, in bits (Lin 1991, eq. 4.1 with equal weights).

    JS = H((p + q) / 2) - (H(p) + H(q)) / 2. An empty side has nothing to compare: 0 if both are, else 1.
    """
    total_before, total_after = sum(before), sum(after)
    if not total_before or not total_after:
        return 0.0 if total_before == total_after else 1.0
    result = 0.0
    for count_before, count_after in zip(before, after, strict=True):
        p, q = count_before / total_before, count_after / total_after
        middle = (p + q) / 2
        result += 0.5 * sum(share * math.log2(share / middle) for share in (p, q) if share)
    return min(max(result, 0.0), 1.0)


def population_stability_index(before: Sequence[int], after: Sequence[int]) -> float:
    """PSI = sum over bins of (q - p) ln(q / p), with shares p before and q after, floored at MIN_SHARE (Siddiqi 2006, ch. 7)."""
    shares = []
    for counts in (before, after):
        total = sum(counts)
        shares.append([max(count / total if total else 0.0, MIN_SHARE) for count in counts])
    return math.fsum((q - p) * math.log(q / p) for p, q in zip(shares[0], shares[1], strict=True))


def categorical_shift(database: duckdb.DuckDBPyConnection, column: str, expression: str, *, kept_only: bool = True) -> CategoryShift:
    """Counts a column on both sides. expression: quoted SQL over the views `before` and `after` (their `_kept` rows)."""
    suffix = "_kept" if kept_only else ""

    def histogram(side: str) -> dict[str, int]:
        query = f"SELECT coalesce({expression}::VARCHAR, ''), count(*) FROM {side}{suffix} GROUP BY 1"  # noqa: S608 - quoted by the caller
        return dict(database.execute(query).fetchall())

    old, new = histogram("before"), histogram("after")
    values = sorted(old.keys() | new.keys())
    rows = [(value, old.get(value, 0), new.get(value, 0)) for value in values]
    total_before, total_after = sum(old.values()), sum(new.values())

    def move(row: tuple[str, int, int]) -> float:
        return abs(row[2] / max(total_after, 1) - row[1] / max(total_before, 1))

    movers = tuple(sorted(rows, key=lambda row: (-move(row), row[0]))[:NUM_MOVERS])
    divergence = jensen_shannon([row[1] for row in rows], [row[2] for row in rows])
    return CategoryShift(column, divergence, len(values), movers, total_before, total_after)


def numeric_shift(database: duckdb.DuckDBPyConnection, column: str, expression: str) -> NumberShift | None:
    """Means, quantiles and PSI of a column on both sides; None when either has no number. expression: as in categorical_shift."""

    def values(side: str) -> str:
        query = f"SELECT ({expression})::DOUBLE AS value FROM {side}_kept"  # noqa: S608 - quoted by the caller
        return f"(SELECT value FROM ({query}) WHERE isfinite(value))"  # noqa: S608

    def summary(side: str) -> tuple[int, float, tuple[float, ...]]:
        query = f"SELECT count(*), avg(value), quantile_cont(value, {list(QUANTILES)}) FROM {values(side)}"  # noqa: S608
        count, mean, quantiles = database.execute(query).fetchone() or (0, None, None)
        return int(count), float(mean or 0.0), tuple(quantiles or ())

    old, new = summary("before"), summary("after")
    if not old[0] or not new[0]:
        return None
    deciles = [index / NUM_BINS for index in range(1, NUM_BINS)]
    edges_query = f"SELECT quantile_cont(value, {deciles}) FROM {values('before')}"  # noqa: S608
    edges = sorted(set((database.execute(edges_query).fetchone() or ([],))[0]))

    def histogram(side: str) -> list[int]:
        # A value belongs to the bin whose number is how many edges lie below it.
        bins = " + ".join(f"(value > {edge!r})::INT" for edge in edges)
        counts = dict(database.execute(f"SELECT {bins} AS bin, count(*) FROM {values(side)} GROUP BY 1").fetchall())  # noqa: S608
        return [counts.get(index, 0) for index in range(len(edges) + 1)]

    index = population_stability_index(histogram("before"), histogram("after"))
    return NumberShift(column, index, old[0], new[0], old[1], new[1], old[2], new[2])
