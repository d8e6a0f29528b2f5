"""Removes samples from a dataset for good reasons (rights, privacy): a new revision whose manifests and shards no longer hold them."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from imagewright.data.shards import SampleLocation, ShardReader, ShardWriter, index_path, list_shards, read_index
from imagewright.errors import Problem
from imagewright.registry.names import RegistryError

if TYPE_CHECKING:
    import pyarrow as pa

KEY_COLUMN = "sample_key"
MAX_METADATA_BYTES = 16 << 20
READ_BYTES = 4 << 20
MAX_SHOWN = 5


def remove_from_folder(folder: Path, keys: Collection[str], version: int) -> int:
    """Rewrites a checked-out payload without the samples; returns how many manifest rows went.

    Parquet tables with a sample_key column lose the rows, shards lose the samples (the rest of such a shard is written anew, and its rows
    point there). version: of the revision the payload is from; it goes into the new shards' names. Raises RegistryError when there is no
    manifest, when a key is in none, or when some other file mentions one.
    """
    tables = [path for path in sorted(folder.rglob("*.parquet")) if KEY_COLUMN in columns_of(path)]
    if not tables:
        rule = "must hold a manifest (a Parquet file with a sample_key column)"
        raise RegistryError(Problem("takedown.dataset", rule, None, "take the samples out of its source and make it again"))
    missing = sorted(set(keys) - {key for table in tables for key in matching_keys(table, keys)})
    if missing:
        shown = ", ".join(missing[:MAX_SHOWN])
        raise RegistryError(
            Problem("takedown.keys", f"must all be in the dataset; {len(missing)} are not", shown, "look the keys up in the manifest")
        )
    shards = {path for parent in {path.parent for path in folder.rglob("*.tar")} for path in list_shards(parent)}
    refuse_other_mentions(folder, keys, {*tables, *shards, *map(index_path, shards)})
    moved: dict[str, SampleLocation] = {}
    for shard in sorted(shards):
        moved.update(rewrite_shard(shard, keys, version))
    return sum(rewrite_table(table, keys, moved) for table in tables)


def columns_of(path: Path) -> list[str]:
    """Column names of a Parquet file. Raises RegistryError when it is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(path).names)
    except (OSError, pa.ArrowException) as error:
        raise RegistryError(Problem("takedown.manifest", f"must be a Parquet file: {error}", path.name, "write it again")) from error


def matching_keys(table: Path, keys: Collection[str]) -> set[str]:
    """Those of the keys that a table holds."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    wanted = pa.array(sorted(keys), pa.string())
    found: set[str] = set()
    for batch in pq.ParquetFile(table).iter_batches(columns=[KEY_COLUMN]):
        column = batch.column(0).cast(pa.string())
        found.update(str(key) for key in column.filter(pc.is_in(column, value_set=wanted)).to_pylist())
    return found


def refuse_other_mentions(folder: Path, keys: Collection[str], understood: Collection[Path]) -> None:
    """Raises RegistryError naming every file of another kind in which a key stands: it may hold the sample, and we cannot take it out."""
    pattern = re.compile(rb"(?<![\w-])(" + b"|".join(re.escape(key.encode()) for key in sorted(keys)) + rb")(?![\w-])")
    longest = max(len(key.encode()) for key in keys) + 1
    problems = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path not in understood):
        tail = b""
        with path.open("rb") as file:
            while data := file.read(READ_BYTES):
                if pattern.search(tail + data):
                    fix = "make this dataset again from its source without the samples"
                    problems.append(
                        Problem("takedown.dataset", "a file of another kind mentions a sample", path.relative_to(folder).as_posix(), fix)
                    )
                    break
                tail = data[-longest:]
    if problems:
        raise RegistryError(problems)


def rewrite_shard(shard: Path, keys: Collection[str], version: int) -> dict[str, SampleLocation]:
    """Replaces a shard by one without the samples; returns the new places of the others, nothing when the shard held none of them."""
    entries = read_index(shard)
    kept = [entry for entry in entries if entry.sample_key not in keys]
    if len(kept) == len(entries):
        return {}
    prefix = f"{re.sub(r'-kept[0-9]+-00000$', '', shard.stem)}-kept{version}"
    places = {}
    with (
        tarfile.open(shard, "r:") as tar,
        ShardReader(shard.parent) as reader,
        ShardWriter(shard.parent, samples_per_shard=max(len(kept), 1), prefix=prefix) as writer,
    ):
        for entry in kept:
            metadata = metadata_of(tar, entry.sample_key, shard)
            places[entry.sample_key] = writer.add(entry.sample_key, entry.extension, reader.read_location(entry), metadata)
    index_path(shard).unlink()
    shard.unlink()
    return places


def metadata_of(tar: tarfile.TarFile, sample_key: str, shard: Path) -> dict[str, object]:
    """The JSON beside a sample. Raises RegistryError when it is missing, too large or not an object."""
    try:
        file = tar.extractfile(f"{sample_key}.json")
        text = file.read(MAX_METADATA_BYTES + 1) if file else b""
        metadata = json.loads(text)
        if len(text) > MAX_METADATA_BYTES or not isinstance(metadata, dict):
            raise ValueError("not an object of bounded size")
    except (KeyError, ValueError) as error:
        rule = f"must hold the sample's metadata: {error}"
        raise RegistryError(Problem("takedown.shard", rule, f"{shard.name}/{sample_key}.json", "write the shard again")) from error
    return metadata


def rewrite_table(table: Path, keys: Collection[str], moved: dict[str, SampleLocation]) -> int:
    """Replaces a Parquet table by one without the samples' rows, in the same schema; returns how many rows went."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    wanted, num_removed = pa.array(sorted(keys), pa.string()), 0
    fresh = table.with_name(table.name + ".partial")
    with pq.ParquetFile(table) as source, pq.ParquetWriter(fresh, source.schema_arrow, compression="zstd") as writer:
        for group in range(source.num_row_groups):
            rows = source.read_row_group(group)
            kept = rows.filter(pc.invert(pc.is_in(rows[KEY_COLUMN].cast(pa.string()), value_set=wanted)))
            num_removed += rows.num_rows - kept.num_rows
            writer.write_table(with_new_places(kept, moved))
    fresh.replace(table)
    return num_removed


def with_new_places(rows: pa.Table, moved: dict[str, SampleLocation]) -> pa.Table:
    """The rows with shard and offset of samples that moved. Rows of shards that lie elsewhere keep their place."""
    import pyarrow as pa

    if not moved or not {"shard", "offset", "length"} <= set(rows.column_names):
        return rows
    old_shards, old_offsets = rows["shard"].to_pylist(), rows["offset"].to_pylist()
    places: Iterable[SampleLocation | None] = (moved.get(str(key)) for key in rows[KEY_COLUMN].to_pylist())
    pairs = [
        (place.shard, place.offset) if place else (shard, offset)
        for place, shard, offset in zip(places, old_shards, old_offsets, strict=True)
    ]
    for name, values in (("shard", [pair[0] for pair in pairs]), ("offset", [pair[1] for pair in pairs])):
        position = rows.schema.get_field_index(name)
        rows = rows.set_column(position, rows.schema.field(position), pa.array(values, rows.schema.field(position).type))
    return rows
