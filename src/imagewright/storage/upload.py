"""Files on their way into the store: hashed once, skipped when the store has them, kept young so garbage collection spares them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from imagewright.errors import Problem
from imagewright.storage.backend import Backend, ObjectInfo
from imagewright.storage.digests import FileDigest, changed_while_storing, digest_bytes, digest_file
from imagewright.storage.errors import StoreError
from imagewright.storage.local_backend import explain_os_error
from imagewright.storage.transfer import progress_bar, run_parallel
from imagewright.storage.tree import DVC_FILES, TreeEntry, blob_key, scan_folder

if TYPE_CHECKING:
    from rich.console import Console

SMALL_BYTES = 8 << 20
NUM_LARGE_FILES = 4
TOUCH_AFTER = timedelta(hours=1)
LIST_FROM_FILES = 64
LISTED_PER_FILE = 100


def upload_file(backend: Backend, path: Path, *, dvc_layout: bool = False, present: dict[str, ObjectInfo] | None = None) -> FileDigest:
    """Stores one file unless the store has it. present: what a listing found, when it is complete."""
    try:
        data = path.read_bytes() if path.stat().st_size <= SMALL_BYTES else None
        digest = digest_file(path, with_md5=dvc_layout) if data is None else digest_bytes(data, with_md5=dvc_layout)
    except FileNotFoundError as error:
        raise StoreError(Problem("store.put", "the file must exist", str(path), "check the path")) from error
    except OSError as error:
        raise explain_os_error(error, "read", str(path)) from error
    key = blob_key(digest.sha256, digest.md5)
    known = backend.stat(key) if present is None else present.get(key)
    if known is not None and known.size_bytes == digest.size_bytes and _keep_young(backend, known):
        return digest
    if data is None:
        backend.write_file(key, path, digest)
    else:
        backend.write(key, data)
    return digest


def _keep_young(backend: Backend, known: ObjectInfo) -> bool:
    """A blob that is skipped must not be collected before the tree that names it is written."""
    return known.modified > datetime.now(UTC) - TOUCH_AFTER or backend.touch(known.key)


def keep_young(backend: Backend, entries: list[TreeEntry], started: datetime) -> None:
    """Refreshes the blobs of an upload that took so long that the first of them grew old. Raises StoreError if one was collected."""
    if datetime.now(UTC) - started < TOUCH_AFTER:
        return
    keys = sorted({blob_key(entry.sha256, entry.md5) for entry in entries})
    if not all(run_parallel(backend.touch, keys, backend.num_workers)):
        raise StoreError(
            Problem("store.put", "a file was collected as garbage meanwhile", backend.url, "store it again, with a longer grace period")
        )


class FolderUpload:
    """Stores the files of one folder and gives their tree entries."""

    def __init__(self, backend: Backend, folder: Path, dvc_layout: bool, console: Console | None, overwrite: bool = False) -> None:
        self._backend, self._folder, self._dvc_layout, self._console = backend, folder, dvc_layout, console
        self._overwrite = overwrite

    def run(self) -> list[TreeEntry]:
        """Entries in the order of their paths, every blob stored and young enough to be there when the tree is written."""
        started = datetime.now(UTC)
        files = scan_folder(self._folder)
        present = {} if self._overwrite else self._list_present(len(files))
        with progress_bar(self._console, "storing", sum(size for _, _, size in files)) as advance:

            def store(item: tuple[str, Path, int]) -> TreeEntry:
                relative, path, size = item
                digest = upload_file(self._backend, path, dvc_layout=self._dvc_layout, present=present)
                if digest.size_bytes != size:
                    raise changed_while_storing(str(path))
                advance(size)
                return TreeEntry(path=relative, size_bytes=size, sha256=digest.sha256, md5=digest.md5)

            entries = run_parallel(store, [item for item in files if item[2] <= SMALL_BYTES], self._backend.num_workers)
            entries += run_parallel(store, [item for item in files if item[2] > SMALL_BYTES], NUM_LARGE_FILES)
        keep_young(self._backend, entries, started)
        return sorted(entries, key=lambda entry: entry.path)

    def _list_present(self, num_files: int) -> dict[str, ObjectInfo] | None:
        """One listing instead of a question per file, as long as the store is not far larger than the folder; else None."""
        if num_files < LIST_FROM_FILES:
            return None
        present: dict[str, ObjectInfo] = {}
        for info in self._backend.list(f"{DVC_FILES}/" if self._dvc_layout else "blobs/"):
            if len(present) >= num_files * LISTED_PER_FILE:
                return None
            present[info.key] = info
        return present
