"""Where a model comes from, and what a sample went into: answered from records in the store and tags in the registry.

A record names the digests of a job's inputs and outputs, so following digests backwards reaches every dataset, commit and image.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from imagewright.errors import Problem
from imagewright.storage import Store
from imagewright.storage.records import Record, parse_record
from imagewright.tracking.lineage_names import ModelError
from imagewright.tracking.models import ModelRegistry, ModelVersion

MAX_INDEX_BYTES = 1 << 30
MAX_DEPTH = 64


@dataclass(frozen=True)
class LineageNode:
    """One payload on the way to a model. name: `turbo@7`, `latents@3` or the job that made it."""

    name: str
    digest: str
    details: dict[str, str] = field(default_factory=dict)
    sources: tuple[LineageNode, ...] = ()

    def lines(self, depth: int = 0) -> Iterator[str]:
        """Indented text, one payload a line with its details below."""
        yield f"{'  ' * depth}{self.name}  {self.digest[:12]}"
        for key, value in self.details.items():
            yield f"{'  ' * depth}    {key}: {value}"
        for source in self.sources:
            yield from source.lines(depth + 1)


@dataclass(frozen=True)
class SampleUse:
    """Which payloads hold a sample. models: version -> how it saw the sample (`latents@3`, or `through base@1`)."""

    datasets: tuple[Record, ...]
    models: dict[str, str]


class Lineage:
    """Answers for one store and one registry; records are read once."""

    def __init__(self, store: Store, registry: ModelRegistry) -> None:
        self._store, self._registry = store, registry
        self._records = read_records(store)

    def of_model(self, version: ModelVersion) -> LineageNode:
        """The version, its run, recipe, commit and image, then everything it was made from. Raises ModelError for a circle."""
        return self._follow(version.digest, ())

    def of_sample(self, sample_key: str) -> SampleUse:
        """Datasets that hold `sample_key` and models that saw it, directly or through the weights they started from."""
        datasets = tuple(record for record in self._records.values() if record.kind == "dataset" and self._holds(record.digest, sample_key))
        holding = {record.digest for record in datasets}
        seen: dict[str, str] = {}
        models = [record for record in self._records.values() if record.kind == "model"]
        pending = True
        while pending:  # until no model inherits from one that was added
            pending = False
            for record in models:
                reason = "" if record.digest in seen else self._reason(record, holding, seen)
                if reason:
                    seen[record.digest] = reason
                    pending = True
        return SampleUse(datasets, {self._name(digest): reason for digest, reason in seen.items()})

    def _reason(self, record: Record, holding: set[str], seen: dict[str, str]) -> str:
        for digest in record.inputs.values():
            if digest in holding:
                return self._name(digest)
        for digest in record.inputs.values():
            if digest in seen:
                return f"through {self._name(digest)}"
        return ""

    def _follow(self, digest: str, above: Sequence[str]) -> LineageNode:
        if digest in above or len(above) > MAX_DEPTH:
            raise ModelError(Problem("lineage", "goes round in a circle", digest, "a record in the store names its own output as input"))
        record = self._records.get(digest)
        versions = self._registry.find(digest)
        details: dict[str, str] = {}
        parents: dict[str, str] = {}
        if versions:
            origin = versions[0].origin
            described = {"run": origin.run, "pipeline run": origin.pipeline_run, "recipe": origin.recipe, "commit": origin.git_commit}
            details |= described | {"image": origin.image, "data": ", ".join(f"{name}={value}" for name, value in origin.data.items())}
            parents = {"parent": origin.parent} if origin.parent else {}
        if record is not None:
            details |= {"job": record.job, "made at": record.created_at}
            details |= {"commit": record.git_commit or details.get("commit", ""), "image": record.image_digest or details.get("image", "")}
            parents = record.inputs
        sources = tuple(self._follow(source, [*above, digest]) for source in dict.fromkeys(parents.values()) if source != digest)
        return LineageNode(self._name(digest), digest, {key: value for key, value in details.items() if value}, sources)

    def _name(self, digest: str) -> str:
        versions = self._registry.find(digest)
        if versions:
            return str(versions[0])
        record = self._records.get(digest)
        return (record.revision or record.job) if record is not None else f"payload {digest[:12]}"

    def _holds(self, digest: str, sample_key: str) -> bool:
        """Whether a dataset's tables name the sample."""
        return any(
            sample_key_in(self._store.read_bytes(digest, MAX_INDEX_BYTES, path_in_folder=entry.path), entry.path, sample_key)
            for entry in self._store.tree(digest)
            if is_index(entry.path)
        )


def read_records(store: Store) -> dict[str, Record]:
    """Every record the store's action entries hold, by the digest of its payload; skipped jobs own no payload."""
    records: dict[str, Record] = {}
    for name in store.list_named("actions/"):
        found = store.get_named(name)
        record = parse_record(found.data, name) if found is not None else None
        if record is not None and record.digest and not record.skipped:
            records.setdefault(record.digest, record)
    return records


def is_index(path: str) -> bool:
    """Files of a dataset that list sample keys: manifests and pairs (Parquet), and the keys of encoded samples."""
    return path.endswith((".parquet", "keys.npy"))


def sample_key_in(data: bytes, path: str, sample_key: str) -> bool:
    """Whether an index file names a sample that was kept. A file without sample keys names none."""
    if path.endswith(".npy"):
        keys = np.load(io.BytesIO(data), allow_pickle=False)
        return bool(keys.dtype.kind == "S" and np.any(keys == sample_key.encode()))
    file = pq.ParquetFile(pa.BufferReader(data))
    names = file.schema_arrow.names
    if "sample_key" not in names:
        return False
    columns = ["sample_key", *(["drop_reason"] if "drop_reason" in names else [])]
    for batch in file.iter_batches(columns=columns):
        keys = np.asarray(batch.column("sample_key").to_pylist(), dtype=object)
        kept = np.asarray([not reason for reason in batch.column("drop_reason").to_pylist()]) if len(columns) > 1 else True
        if np.any((keys == sample_key) & kept):
            return True
    return False
