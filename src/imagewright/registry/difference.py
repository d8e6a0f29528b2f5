"""What changed between two revisions: rows and distributions where there are manifests, files where there are none."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from imagewright.errors import Problem
from imagewright.registry.names import RegistryError, Revision

if TYPE_CHECKING:
    from imagewright.registry.distributions import CategoryShift, NumberShift
    from imagewright.storage.store import Store
    from imagewright.storage.tree import TreeEntry

KEY_COLUMN = "sample_key"
MANIFEST_NAME = "manifest.parquet"
# A sample that only lies elsewhere after resharding is the same sample.
PLACE_COLUMNS = frozenset({"shard", "offset", "length"})
MAX_EXAMPLES = 10
COPY_BYTES = 8 << 20


@dataclass(frozen=True)
class FileChanges:
    """Files by path. changed: same path, other content."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    num_same: int


@dataclass(frozen=True)
class RowChanges:
    """Rows of the manifests by sample_key. The examples are the first keys in order."""

    num_before: int
    num_after: int
    num_added: int
    num_removed: int
    num_changed: int
    num_moved: int
    """Rows whose place in the shards alone is another."""
    changed_columns: dict[str, int]
    """Column -> rows in which it differs, most first."""
    new_columns: tuple[str, ...]
    lost_columns: tuple[str, ...]
    examples_added: tuple[str, ...]
    examples_removed: tuple[str, ...]
    examples_changed: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """From one revision to another. rows is None, and the shifts are empty, when either has no manifest."""

    before: Revision
    after: Revision
    files: FileChanges
    rows: RowChanges | None = None
    categories: tuple[CategoryShift, ...] = ()
    numbers: tuple[NumberShift, ...] = field(default=())

    @property
    def is_empty(self) -> bool:
        """Whether both revisions name the same payload."""
        return self.before.digest == self.after.digest


def compare(store: Store, before: Revision, after: Revision) -> Difference:
    """Compares two revisions; manifests are read out of core with DuckDB.

    Raises RegistryError when a manifest uses a sample_key twice, StoreError when a payload is missing.
    """
    trees = store.tree(before.digest), store.tree(after.digest)
    files = compare_files(*trees)
    if before.digest == after.digest:
        return Difference(before, after, files)
    with tempfile.TemporaryDirectory(prefix="imagewright-diff-") as folder:
        paths = [
            fetch_manifests(store, revision, tree, Path(folder) / side)
            for side, revision, tree in zip(("before", "after"), (before, after), trees, strict=True)
        ]
        if not all(paths):
            return Difference(before, after, files)
        from imagewright.registry import manifest_difference

        return manifest_difference.compare_manifests(Difference(before, after, files), paths[0], paths[1], Path(folder))


def compare_files(before: list[TreeEntry], after: list[TreeEntry]) -> FileChanges:
    """Compares two folders by path and content."""
    old, new = ({entry.path: entry.sha256 for entry in entries} for entries in (before, after))
    both = old.keys() & new.keys()
    changed = tuple(sorted(path for path in both if old[path] != new[path]))
    return FileChanges(tuple(sorted(new.keys() - old.keys())), tuple(sorted(old.keys() - new.keys())), changed, len(both) - len(changed))


def fetch_manifests(store: Store, revision: Revision, tree: list[TreeEntry], folder: Path) -> list[Path]:
    """Downloads the manifest of a payload, verified; returns the paths of its parts.

    That is every `manifest.parquet`, or in a payload without one every Parquet file with a sample_key column.
    """
    import hashlib

    import pyarrow as pa
    import pyarrow.parquet as pq

    found = []
    folder.mkdir()
    tables = [entry for entry in tree if entry.path.endswith(".parquet")]
    named = [entry for entry in tables if PurePosixPath(entry.path).name == MANIFEST_NAME]
    for entry in named or tables:
        path, sha256 = folder / f"{entry.sha256}.parquet", hashlib.sha256()
        with path.open("wb") as file:
            for start in range(0, entry.size_bytes, COPY_BYTES):
                data = store.read_range(revision.digest, entry.path, start, min(COPY_BYTES, entry.size_bytes - start))
                sha256.update(data)
                file.write(data)
        if sha256.hexdigest() != entry.sha256:
            fix = "store the payload again from its source"
            raise RegistryError(Problem("diff.payload", "stored bytes differ from their digest", f"{revision}/{entry.path}", fix))
        try:
            columns = pq.read_schema(path).names
        except (OSError, pa.ArrowException) as error:
            raise RegistryError(
                Problem("diff.manifest", f"must be a Parquet file: {error}", f"{revision}/{entry.path}", "write it again")
            ) from error
        if KEY_COLUMN in columns:
            found.append(path)
    return found
