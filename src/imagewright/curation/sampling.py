"""Hierarchical sampling: between categories by size and look, inside a category by look; out of core on Parquet with DuckDB.

Own design after the substitutes for the unpublished formulas: w_c ~ n_c**tau * exp(gamma * z_c) between categories and
p(i|c) ~ exp(kappa * z_i) inside, both with floors, then a cap on repeats. A weight is the expected number of draws in one epoch
of as many draws as there are kept training samples.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

import duckdb

from imagewright.config.curation import SamplingConfig
from imagewright.curation.look import look_expression

CAP_STEPS = 40
# z of a sample's look inside its category, limited so that one odd score cannot own the category.
Z_INSIDE = "greatest(-3, least(3, coalesce((look - mean) / nullif(spread, 0), 0)))"
MEMORY_LIMIT = "1500MB"


@dataclass(frozen=True)
class CategoryShare:
    """One row of the target-versus-realised histogram."""

    category: str
    num_samples: int
    mean_aesthetic: float
    natural: float
    """Share of the pool."""
    target: float
    """Share asked for by the formula."""
    expected: float
    """Share after floors and the cap on repeats."""
    realised: float
    """Share of the draws of the first epoch."""


def weigh(source: Path, destination: Path, section: SamplingConfig, seed: int, *, threads: int = 1) -> list[CategoryShare]:
    """Copies a manifest with `sampling_weight` filled in; returns the histogram by category.

    Kept training rows share one epoch; every other row gets 0. A weight depends on its row and on statistics of its category, so the
    pool is only ever streamed. One thread and statistics rounded to nine digits make the weights the same on every machine. What does not
    fit into memory is spilled beside the destination.
    """
    with (
        tempfile.TemporaryDirectory(dir=destination.parent, prefix=".spill-") as spill,
        duckdb.connect(config={"threads": threads, "memory_limit": MEMORY_LIMIT, "temp_directory": spill}) as connection,
    ):
        return weigh_pool(connection, source, destination, section, seed)


def weigh_pool(
    connection: duckdb.DuckDBPyConnection, source: Path, destination: Path, section: SamplingConfig, seed: int
) -> list[CategoryShare]:
    """The same on an open connection."""
    connection.read_parquet(str(source)).create_view("pool")
    look = look_expression([row[0] for row in connection.execute("DESCRIBE pool").fetchall()])
    connection.execute(f"CREATE VIEW looked AS SELECT *, {look} AS look, drop_reason = '' AND split = 'train' AS is_drawn FROM pool")  # noqa: S608 - fixed text
    connection.execute("CREATE VIEW drawn AS SELECT * FROM looked WHERE is_drawn")
    weigh_categories(connection, section)
    scale = cap_scale(connection, section)
    expression = f"least({section.max_repeats!r}, {scale!r} * {sample_weight(section)})"
    partial = destination.with_name(destination.name + ".partial")
    weighed = f"CASE WHEN is_drawn THEN CAST({expression} AS FLOAT) ELSE 0 END"
    query = (
        f"SELECT looked.* EXCLUDE (look, is_drawn) REPLACE (CAST({weighed} AS FLOAT) AS sampling_weight) "  # noqa: S608 - validated numbers
        "FROM looked LEFT JOIN stats USING (category)"
    )
    connection.sql(query).write_parquet(str(partial), compression="zstd")
    partial.replace(destination)
    return histogram(connection, destination, seed)


def weigh_categories(connection: duckdb.DuckDBPyConnection, section: SamplingConfig) -> None:
    """Table `stats` by category: n, mean and spread of the look, target share, and the two sums that normalise its samples.

    target: w_c ~ n_c**tau * exp(gamma * z_c), at least category_floor / number of categories.
    """
    connection.execute(
        """
        CREATE TABLE shares AS
        WITH means AS (SELECT category, count(*) AS n, round(avg(look), 9) AS mean, round(coalesce(stddev_pop(look), 0), 9) AS spread
                       FROM drawn GROUP BY category),
             scaled AS (SELECT *, coalesce((mean - avg(mean) OVER ()) / nullif(stddev_pop(mean) OVER (), 0), 0) AS z FROM means),
             raw AS (SELECT *, pow(n, $tau) * exp($gamma * greatest(-3, least(3, z))) AS w FROM scaled),
             normal AS (SELECT *, w / sum(w) OVER () AS share, count(*) OVER () AS k FROM raw),
             floored AS (SELECT *, greatest(share, $floor / k) AS lifted FROM normal)
        SELECT category, n, mean, spread, lifted / sum(lifted) OVER () AS target, sum(n) OVER () AS total FROM floored ORDER BY category
        """,
        {"tau": section.temperature, "gamma": section.aesthetic_weight, "floor": section.category_floor},
    )
    attraction = f"exp({section.inner_weight!r} * {Z_INSIDE})"
    connection.execute(
        f"""
        CREATE TABLE stats AS
        WITH first AS (SELECT category, round(sum({attraction}), 9) AS p_sum FROM drawn JOIN shares USING (category) GROUP BY category),
             normed AS (SELECT * FROM shares JOIN first USING (category)),
             second AS (SELECT category, round(sum(greatest({attraction} / p_sum, {section.sample_floor!r} / n)), 12) AS q_sum
                        FROM drawn JOIN normed USING (category) GROUP BY category)
        SELECT * FROM normed JOIN second USING (category) ORDER BY category
        """  # noqa: S608 - validated numbers
    )


def sample_weight(section: SamplingConfig) -> str:
    """SQL for the uncapped weight of a row joined with `stats`: total * target * q / sum(q), q = max(p / sum(p), floor / n)."""
    attraction = f"exp({section.inner_weight!r} * {Z_INSIDE})"
    return f"(total * target * greatest({attraction} / p_sum, {section.sample_floor!r} / n) / q_sum)"


def cap_scale(connection: duckdb.DuckDBPyConnection, section: SamplingConfig) -> float:
    """The scale s >= 1 with sum(min(cap, s * w)) = number of rows, by bisection on a fine histogram; 1 when nothing is capped."""
    bins = connection.execute(
        f"SELECT round(log2(w) * 256) AS bin, count(*), sum(w) / count(*) FROM (SELECT {sample_weight(section)} AS w "  # noqa: S608 - validated numbers
        "FROM drawn JOIN stats USING (category)) WHERE w > 0 GROUP BY bin ORDER BY bin"
    ).fetchall()
    cap, count = section.max_repeats, sum(number for _, number, _ in bins)
    if not bins or max(mean for _, _, mean in bins) <= cap:
        return 1.0
    low, high = 1.0, 2.0
    while sum(number * min(cap, high * mean) for _, number, mean in bins) < count * (1 - 1e-9) and high < 2**60:
        high *= 2
    for _ in range(CAP_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(number * min(cap, middle * mean) for _, number, mean in bins) < count else (low, middle)
    return round(low, 9)


def draws_expression(seed: int, epoch: int) -> str:
    """SQL for the draws of a row in one epoch: the whole part of its sampling_weight, and one more with the chance of the rest.

    The chance comes from a hash of (seed, epoch, key), so draws need no state and no order.
    """
    salt = hashlib.sha256(f"{seed} {epoch}".encode()).hexdigest()[:16]
    chance = f"hash('{salt}' || sample_key) / 18446744073709551616.0"
    return f"(CAST(floor(sampling_weight) AS BIGINT) + CAST({chance} < sampling_weight - floor(sampling_weight) AS BIGINT))"


def histogram(connection: duckdb.DuckDBPyConnection, weighed: Path, seed: int) -> list[CategoryShare]:
    """Natural, target, expected and realised share of every category, most samples first."""
    connection.read_parquet(str(weighed)).create_view("weighed")
    rows = connection.execute(
        f"""
        WITH realised AS (SELECT category, sum(sampling_weight) AS expected, sum({draws_expression(seed, 0)}) AS draws
                          FROM weighed WHERE drop_reason = '' AND split = 'train' GROUP BY category)
        SELECT category, n, mean, n / total, target, expected / total, draws / greatest(1, sum(draws) OVER ())
        FROM stats JOIN realised USING (category) ORDER BY n DESC, category
        """  # noqa: S608 - the expression is built from a seed and an epoch
    ).fetchall()
    return [CategoryShare(str(name), int(n), *(float(value) for value in rest)) for name, n, *rest in rows]
