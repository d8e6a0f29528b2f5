"""Compares the manifests of two revisions with DuckDB, out of core: rows by sample_key, then the distributions of what is kept."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import duckdb

from imagewright.errors import Problem
from imagewright.registry.difference import KEY_COLUMN, MAX_EXAMPLES, PLACE_COLUMNS, Difference, RowChanges
from imagewright.registry.distributions import categorical_shift, numeric_shift
from imagewright.registry.names import RegistryError

MEMORY_LIMIT = "1GB"
CATEGORY_COLUMNS = ("category", "source", "style", "licence", "split")
SIZE_COLUMNS = {"size_megapixels": "width * height / 1e6", "aspect_ratio": "width / height"}
SCORE_PREFIX = "score_"
SIDES = ("before", "after")


def compare_manifests(difference: Difference, before: list[Path], after: list[Path], scratch: Path) -> Difference:
    """Fills in the row changes and the shifts. scratch: where DuckDB spills what does not fit into memory."""
    with duckdb.connect(config={"temp_directory": str(scratch / "spill"), "memory_limit": MEMORY_LIMIT}) as database:
        for side, paths in zip(SIDES, (before, after), strict=True):
            files = database.read_parquet([str(path) for path in paths], union_by_name=True)
            files.create_view(side)
        for side, revision in zip(SIDES, (difference.before, difference.after), strict=True):
            refuse_repeated_keys(database, side, str(revision))
        columns = {side: column_types(database, side) for side in SIDES}
        rows = compare_rows(database, *(tuple(columns[side]) for side in SIDES))
        for side in SIDES:
            kept = "WHERE coalesce(drop_reason, '') = ''" if "drop_reason" in columns[side] else ""
            database.execute(f"CREATE VIEW {side}_kept AS SELECT * FROM {side} {kept}")  # noqa: S608 - fixed words only
        shared = [name for name in columns["before"] if name in columns["after"]]
        categories = [categorical_shift(database, name, quoted(name)) for name in CATEGORY_COLUMNS if name in shared]
        if all("drop_reason" in columns[side] for side in SIDES):
            categories.append(categorical_shift(database, "drop_reason", "drop_reason", kept_only=False))
        expressions = SIZE_COLUMNS if {"width", "height"} <= set(shared) else {}
        expressions = expressions | {name: quoted(name) for name in shared if name.startswith(SCORE_PREFIX)}
        numbers = [shift for name, expression in expressions.items() if (shift := numeric_shift(database, name, expression))]
    return dataclasses.replace(difference, rows=rows, categories=tuple(categories), numbers=tuple(numbers))


def quoted(name: str) -> str:
    """A column name as an SQL identifier, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def column_types(database: duckdb.DuckDBPyConnection, view: str) -> dict[str, str]:
    """Column -> type of a view, in order."""
    return {str(row[0]): str(row[1]) for row in database.execute(f"DESCRIBE {view}").fetchall()}


def refuse_repeated_keys(database: duckdb.DuckDBPyConnection, view: str, revision: str) -> None:
    """Raises RegistryError when a sample_key is missing or used twice: rows could not be told apart."""
    query = f"SELECT {KEY_COLUMN} FROM {view} GROUP BY 1 HAVING count(*) > 1 OR {KEY_COLUMN} IS NULL LIMIT 1"  # noqa: S608
    repeated = database.execute(query).fetchone()
    if repeated:
        fix = "give every sample its own permanent key"
        raise RegistryError(Problem("manifest.sample_key", f"must be used once in {revision}", repeated[0] or "an empty key", fix))


def compare_rows(database: duckdb.DuckDBPyConnection, before: tuple[str, ...], after: tuple[str, ...]) -> RowChanges:
    """Full outer join on sample_key; columns that only one side has are named, not compared."""
    shared = [name for name in before if name in after and name != KEY_COLUMN]
    compared = [name for name in shared if name not in PLACE_COLUMNS]
    places = [name for name in shared if name in PLACE_COLUMNS]

    def differs(names: list[str]) -> str:
        return " OR ".join(f"b.{quoted(name)} IS DISTINCT FROM a.{quoted(name)}" for name in names) or "false"

    flags = "".join(f", b.{quoted(name)} IS DISTINCT FROM a.{quoted(name)} AS c{index}" for index, name in enumerate(compared))
    # The keys are never null, so a null one says that the row is on the other side only.
    database.execute(
        f"CREATE TEMP TABLE joined AS SELECT coalesce(b.{KEY_COLUMN}, a.{KEY_COLUMN})::VARCHAR AS key, "  # noqa: S608 - quoted identifiers
        f"CASE WHEN b.{KEY_COLUMN} IS NULL THEN 'added' WHEN a.{KEY_COLUMN} IS NULL THEN 'removed' "
        f"WHEN {differs(compared)} THEN 'changed' WHEN {differs(places)} THEN 'moved' ELSE 'same' END AS kind{flags} "
        f"FROM before b FULL OUTER JOIN after a ON b.{KEY_COLUMN} = a.{KEY_COLUMN}"
    )
    counts = dict(database.execute("SELECT kind, count(*) FROM joined GROUP BY 1").fetchall())
    sums = "".join(f", count(*) FILTER (c{index})" for index in range(len(compared)))
    per_column = database.execute(f"SELECT 0{sums} FROM joined WHERE kind = 'changed'").fetchone() or (0,)  # noqa: S608
    columns = sorted(((name, count) for name, count in zip(compared, per_column[1:], strict=True) if count), key=lambda item: -item[1])

    def examples(kind: str) -> tuple[str, ...]:
        found = database.execute("SELECT key FROM joined WHERE kind = ? ORDER BY key LIMIT ?", [kind, MAX_EXAMPLES])
        return tuple(row[0] for row in found.fetchall())

    num = {kind: counts.get(kind, 0) for kind in ("added", "removed", "changed", "moved", "same")}
    num_shared = num["changed"] + num["moved"] + num["same"]
    return RowChanges(
        num_before=num_shared + num["removed"],
        num_after=num_shared + num["added"],
        num_added=num["added"],
        num_removed=num["removed"],
        num_changed=num["changed"],
        num_moved=num["moved"],
        changed_columns=dict(columns),
        new_columns=tuple(name for name in after if name not in before),
        lost_columns=tuple(name for name in before if name not in after),
        examples_added=examples("added"),
        examples_removed=examples("removed"),
        examples_changed=examples("changed"),
    )
