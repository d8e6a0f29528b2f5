"""The manifest: one Parquet row per sample, from ingest (raw) through curation (scores, drop reason, weight) to encoding.

The schema is fixed except for `score_<name>` columns, which scorers add. Rows are never removed: what is kept out has a drop_reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from imagewright.errors import InputError, Problem

MANIFEST_NAME = "manifest.parquet"
SCORE_PREFIX = "score_"
SPLITS = ("train", "validation", "holdout_compositional", "holdout_concept")
CAPTION_FORMS = ("long", "medium", "short", "tags", "user", "original")
ROW_GROUP_SIZE = 65_536

CAPTION_TYPE = pa.struct([pa.field("form", pa.string()), pa.field("language", pa.string()), pa.field("text", pa.string())])
SCHEMA_FIELDS: list[pa.Field[Any]] = [
    pa.field("sample_key", pa.string(), nullable=False),
    pa.field("shard", pa.string(), nullable=False),
    pa.field("offset", pa.int64(), nullable=False),
    pa.field("length", pa.int64(), nullable=False),
    pa.field("sha256", pa.string(), nullable=False),
    pa.field("width", pa.int32(), nullable=False),
    pa.field("height", pa.int32(), nullable=False),
    pa.field("source", pa.string(), nullable=False),
    pa.field("licence", pa.string(), nullable=False),
    pa.field("style", pa.string(), nullable=False),
    pa.field("concept", pa.string(), nullable=False),
    pa.field("category", pa.string(), nullable=False),
    pa.field("split", pa.string(), nullable=False),
    pa.field("captions", pa.list_(CAPTION_TYPE), nullable=False),
    pa.field("visible_text", pa.string(), nullable=False),
    pa.field("scene", pa.string(), nullable=False),
    pa.field("phash", pa.uint64(), nullable=True),
    pa.field("drop_reason", pa.string(), nullable=False),
    pa.field("sampling_weight", pa.float32(), nullable=False),
]
SCHEMA = pa.schema(SCHEMA_FIELDS)


class ManifestError(InputError):
    """A table that is not a manifest."""


@dataclass(frozen=True)
class Caption:
    """One caption of an image."""

    form: str
    """long, medium, short, tags, user, or original (as the source gave it)."""
    language: str
    """BCP 47 tag: en, zh."""
    text: str


@dataclass(frozen=True)
class ManifestRow:
    """One sample. Fields are the manifest's columns, in order; scores live only in the table."""

    sample_key: str
    shard: str
    offset: int
    length: int
    sha256: str
    width: int = 0
    """Pixels; 0 until the probe has read the header."""
    height: int = 0
    source: str = ""
    licence: str = ""
    style: str = ""
    concept: str = ""
    category: str = ""
    """Path such as `emoji/animals/mammal`; after curation the fine class of the taxonomy."""
    split: str = "train"
    captions: tuple[Caption, ...] = ()
    visible_text: str = ""
    scene: str = ""
    """JSON ground truth of a composed scene, else empty."""
    phash: int | None = None
    drop_reason: str = ""
    """Empty: kept."""
    sampling_weight: float = 1.0


COLUMNS = tuple(field.name for field in fields(ManifestRow))
assert tuple(SCHEMA.names) == COLUMNS, "ManifestRow and SCHEMA name the same columns"


def rows_to_table(rows: Iterable[ManifestRow]) -> pa.Table:
    """Rows -> Arrow table with the manifest's schema."""
    rows = list(rows)
    columns: dict[str, list[Any]] = {name: [getattr(row, name) for row in rows] for name in COLUMNS}
    columns["captions"] = [[{"form": c.form, "language": c.language, "text": c.text} for c in captions] for captions in columns["captions"]]
    return pa.table(columns, schema=SCHEMA)


def table_to_rows(table: pa.Table) -> Iterator[ManifestRow]:
    """Arrow table -> rows; score columns are left out."""
    for batch in table.select(COLUMNS).to_batches(max_chunksize=4096):
        for row in batch.to_pylist():
            row["captions"] = tuple(Caption(**caption) for caption in row["captions"])
            yield ManifestRow(**row)


def conform(table: pa.Table) -> pa.Table:
    """Brings a table to the manifest's column order and types; score columns become float32 and follow in name order.

    Raises ManifestError with every missing, unknown or unconvertible column.
    """
    problems = [Problem(f"manifest.{name}", "column is missing", fix="write the manifest with data/manifest.py")
                for name in COLUMNS if name not in table.column_names]  # fmt: skip
    scores = sorted(name for name in table.column_names if name.startswith(SCORE_PREFIX))
    unknown = sorted(set(table.column_names) - set(COLUMNS) - set(scores))
    problems += [Problem(f"manifest.{name}", "unknown column", fix=f"name a score {SCORE_PREFIX}{name}") for name in unknown]
    if problems:
        raise ManifestError(problems)
    arrays, schema = [], schema_with(scores)
    for field in schema:
        try:
            arrays.append(table[field.name].cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            problems.append(Problem(f"manifest.{field.name}", f"must hold {field.type}: {error}", str(table[field.name].type)))
        else:
            if not field.nullable and arrays[-1].null_count:
                problems.append(Problem(f"manifest.{field.name}", "must have no empty cells", f"{arrays[-1].null_count} nulls"))
    if problems:
        raise ManifestError(problems)
    return pa.Table.from_arrays(arrays, schema=schema)


def schema_with(scores: Sequence[str]) -> pa.Schema:
    """The manifest's schema plus float32 score columns."""
    return pa.schema([*SCHEMA, *(pa.field(name, pa.float32()) for name in scores)])


def check_values(table: pa.Table) -> None:
    """Checks what types cannot: unique non-empty keys, known splits, hex digests, weights >= 0. Raises ManifestError with all problems."""
    problems = []
    keys = table["sample_key"]
    if table.num_rows and pc.count_distinct(keys).as_py() != table.num_rows:
        problems.append(Problem("manifest.sample_key", "must be used once", fix="give every sample its own permanent key"))
    splits = {str(split) for split in pc.unique(table["split"]).to_pylist()}
    if unknown := sorted(splits - set(SPLITS)):
        problems.append(Problem("manifest.split", f"must be one of {', '.join(SPLITS)}", unknown))
    if table.num_rows and not pc.all(pc.match_substring_regex(table["sha256"], "^[0-9a-f]{64}$")).as_py():
        problems.append(Problem("manifest.sha256", "must be 64 hex digits"))
    if table.num_rows and not pc.all(pc.greater_equal(table["sampling_weight"], pa.scalar(0.0, pa.float32()))).as_py():
        problems.append(Problem("manifest.sampling_weight", "must be a number >= 0"))
    if problems:
        raise ManifestError(problems)


def write_manifest(path: Path, data: pa.Table | Iterable[ManifestRow]) -> int:
    """Writes a validated manifest atomically; returns the number of rows."""
    table = conform(data if isinstance(data, pa.Table) else rows_to_table(data))
    check_values(table)
    partial = path.with_name(path.name + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, partial, compression="zstd", row_group_size=ROW_GROUP_SIZE)
    partial.replace(path)
    return int(table.num_rows)


def read_manifest(path: Path, *, columns: Sequence[str] | None = None, splits: Sequence[str] | None = None, kept: bool = False) -> pa.Table:
    """Reads a manifest (a file, or a folder holding `manifest.parquet`).

    columns: only these. splits: only rows of these splits. kept: only rows without a drop_reason. Raises ManifestError.
    """
    path = path / MANIFEST_NAME if path.is_dir() else path
    conditions = []
    if splits is not None:
        conditions.append(pc.field("split").isin(list(splits)))
    if kept:
        conditions.append(pc.field("drop_reason") == "")
    expression = conditions[0] if len(conditions) == 1 else (conditions[0] & conditions[1] if conditions else None)
    try:
        schema = pq.read_schema(path)
        missing = [name for name in (columns or COLUMNS) if name not in schema.names]
        if missing:
            raise ManifestError([Problem(f"manifest.{name}", "column is missing", path.name) for name in missing])
        table = pq.read_table(path, columns=list(columns) if columns else None, filters=expression)
    except (OSError, pa.ArrowException) as error:
        raise ManifestError(Problem("manifest", f"cannot be read: {error}", str(path), "run the job that makes it")) from error
    return table if columns else conform(table)


class ManifestWriter:
    """Writes a manifest in row groups without holding it in memory; appears whole on close."""

    def __init__(self, path: Path, rows_per_group: int = 8192) -> None:
        self.path = path
        self.rows_per_group = rows_per_group
        self.num_rows = 0
        self._buffer: list[ManifestRow] = []
        self._partial = path.with_name(path.name + ".partial")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(self._partial, SCHEMA, compression="zstd")

    def add(self, row: ManifestRow) -> None:
        """Appends one row."""
        self._buffer.append(row)
        self.num_rows += 1
        if len(self._buffer) == self.rows_per_group:
            self._flush()

    def _flush(self) -> None:
        if self._buffer:
            self._writer.write_table(rows_to_table(self._buffer))
            self._buffer = []

    def __enter__(self) -> ManifestWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._flush()
        self._writer.close()
        if kind is None:
            self._partial.replace(self.path)
        else:
            self._partial.unlink(missing_ok=True)
