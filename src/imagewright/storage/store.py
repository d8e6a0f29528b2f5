"""The store: payloads under their SHA-256, folders as trees published last, and small named objects with conditional writes.

Everything a job hands to the next lies here; records name it by digest.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from imagewright.errors import Problem
from imagewright.storage.backend import Backend, Condition, NamedObject
from imagewright.storage.digests import digest_bytes, digest_file, parse_digest
from imagewright.storage.errors import PayloadMissing, StoreError
from imagewright.storage.local_backend import explain_os_error
from imagewright.storage.transfer import Advance, progress_bar, run_parallel
from imagewright.storage.tree import MAX_TREE_BYTES, DvcFolder, TreeEntry, blob_key, changed, dvc_folder, parse_tree, tree_bytes, tree_key
from imagewright.storage.upload import NUM_LARGE_FILES, SMALL_BYTES, FolderUpload, upload_file

if TYPE_CHECKING:
    from rich.console import Console

MAX_NAMED_BYTES = 64 << 20
MAX_NAME_CHARS = 512
NUM_CACHED_TREES = 8
_NAME = re.compile(r"[A-Za-z0-9._=@+,:-]+(/[A-Za-z0-9._=@+,:-]+)*")


class Store:
    """One place for payloads and names. Safe to share between threads and processes; nothing half-written is ever visible."""

    def __init__(self, backend: Backend, console: Console | None = None) -> None:
        self.backend = backend
        self._console = console
        self._trees: dict[str, list[TreeEntry]] = {}

    @property
    def url(self) -> str:
        """Address for messages, without credentials."""
        return self.backend.url

    def put_bytes(self, data: bytes) -> str:
        """Stores bytes and returns their digest."""
        digest = digest_bytes(data).sha256
        self.backend.write(blob_key(digest), data)
        return digest

    def put_file(self, path: Path) -> str:
        """Stores a file and returns its digest. Raises PayloadChanged when it changes meanwhile."""
        return upload_file(self.backend, path).sha256

    def put_folder(self, path: Path, *, dvc_layout: bool = False, overwrite: bool = False) -> str:
        """Stores the files below a folder and returns the folder's digest: the SHA-256 of its tree object, written last.

        dvc_layout: files go to `dvc/files/md5` with their `.dir` object, so that `dvc pull` from `<store>/dvc` works.
        overwrite: write also the files the store seems to have, because its copies are known to be damaged.
        Raises StoreError naming every symbolic link or special file.
        """
        entries = FolderUpload(self.backend, path, dvc_layout, self._console, overwrite).run()
        if dvc_layout:
            folder = dvc_folder(entries)
            self.backend.write(blob_key("", folder.md5), folder.data)
        data = tree_bytes(entries)
        digest = digest_bytes(data).sha256
        self.backend.write(tree_key(digest), data)
        return digest

    def get(self, digest: str, destination: Path) -> None:
        """Writes a payload, verified, to a file or a folder that appears whole or not at all.

        Raises PayloadMissing, PayloadChanged, and StoreError when a folder would replace one that is not empty.
        """
        digest = parse_digest(digest)
        entries = self._find_tree(digest)
        destination.parent.mkdir(parents=True, exist_ok=True)
        temporary = destination.parent / f".{destination.name}.{uuid.uuid4().hex}.partial"
        try:
            if entries is None:
                self._get_blob(TreeEntry(path=".", size_bytes=self.size_bytes(digest), sha256=digest), digest, temporary)
            else:
                _refuse_full_folder(destination)
                self._get_files(entries, digest, temporary)
            temporary.replace(destination)
        except OSError as error:
            raise explain_os_error(error, "write", str(destination)) from error
        finally:
            if temporary.is_dir():
                shutil.rmtree(temporary, ignore_errors=True)
            temporary.unlink(missing_ok=True)

    def get_files(self, digest: str, paths: Collection[str], folder: Path) -> None:
        """Writes some files of a folder payload, verified, below `folder`; files that are there already are kept.

        A call that was interrupted leaves whole files only. Raises PayloadMissing naming every path the payload lacks; PayloadChanged.
        """
        digest = parse_digest(digest)
        wanted = {entry.path: entry for entry in self.tree(digest) if entry.path in paths}
        if lacking := sorted(set(paths) - set(wanted)):
            raise PayloadMissing([Problem("store.payload", "the folder has no such file", f"{digest}/{path}") for path in lacking])

        def fetch(entry: TreeEntry) -> None:
            target = folder / entry.path
            if target.exists():
                return
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
            try:
                self._get_blob(entry, digest, temporary)
                temporary.replace(target)
            except OSError as error:
                raise explain_os_error(error, "write", str(target)) from error
            finally:
                temporary.unlink(missing_ok=True)

        for group, num_workers in _by_size(list(wanted.values()), self.backend.num_workers):
            run_parallel(fetch, group, num_workers)

    def read_bytes(self, digest: str, limit: int, path_in_folder: str | None = None) -> bytes:
        """A verified file payload, or one file of a folder. Raises StoreError when it is larger than `limit` bytes."""
        digest = parse_digest(digest)
        key, sha256 = self._locate(digest, path_in_folder)
        found = self.backend.read(key, limit)
        if found is None:
            raise _missing(digest, path_in_folder or "")
        if digest_bytes(found.data).sha256 != sha256:
            raise changed(digest, path_in_folder or "")
        return found.data

    def read_range(self, digest: str, path_in_folder: str | None, start: int, length: int) -> bytes:
        """Bytes [start, start + length) of a file payload or of one file of a folder.

        A part cannot be checked against the digest of the whole: the caller verifies it (shards carry a SHA-256 per sample).
        Raises PayloadMissing; StoreError when the range is not inside the file.
        """
        digest = parse_digest(digest)
        key, _ = self._locate(digest, path_in_folder)
        if start < 0 or length < 0:
            raise StoreError(Problem("store.read_range", "start and length must not be negative", (start, length)))
        data = self.backend.read_range(key, start, length)
        if data is None:
            raise _missing(digest, path_in_folder or "")
        if len(data) != length:
            raise StoreError(Problem("store.read_range", f"the file ends before byte {start + length}", path_in_folder or digest))
        return data

    def exists(self, digest: str) -> bool:
        """Whether the payload is complete: the file, or the tree and every file in it at its right size."""
        digest = parse_digest(digest)
        entries = self._find_tree(digest, cached=False)
        if entries is None:
            return self.backend.stat(blob_key(digest)) is not None
        return not self.missing_files(entries)

    def missing_files(self, entries: list[TreeEntry]) -> list[TreeEntry]:
        """Those files of a folder that the store lacks or holds at another size."""

        def is_there(entry: TreeEntry) -> bool:
            info = self.backend.stat(blob_key(entry.sha256, entry.md5))
            return info is not None and info.size_bytes == entry.size_bytes

        there = run_parallel(is_there, entries, self.backend.num_workers)
        return [entry for entry, found in zip(entries, there, strict=True) if not found]

    def tree(self, digest: str) -> list[TreeEntry]:
        """The files of a folder payload, sorted by path. Raises PayloadMissing."""
        digest = parse_digest(digest)
        entries = self._find_tree(digest)
        if entries is None:
            raise PayloadMissing(
                Problem(
                    "store.payload", "the store holds no folder under this digest", digest, f"look in the right store; this is {self.url}"
                )
            )
        return entries

    def is_folder(self, digest: str) -> bool:
        """Whether the digest is that of a folder."""
        return self._find_tree(parse_digest(digest)) is not None

    def dvc_folder(self, digest: str) -> DvcFolder:
        """What a `.dvc` file must say about a folder stored with `dvc_layout=True`."""
        entries = self.tree(digest)
        if not all(entry.md5 for entry in entries):
            raise StoreError(Problem("store.payload", "was not stored in DVC's layout", digest, "store it with dvc_layout=True"))
        return dvc_folder(entries)

    def size_bytes(self, digest: str) -> int:
        """Size of a file payload, or of all files of a folder together. Raises PayloadMissing."""
        digest = parse_digest(digest)
        entries = self._find_tree(digest)
        if entries is not None:
            return sum(entry.size_bytes for entry in entries)
        info = self.backend.stat(blob_key(digest))
        if info is None:
            raise _missing(digest, "")
        return info.size_bytes

    def put_named(self, name: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """Writes a small object under a name and returns its etag.

        if_absent: only when the name is free. if_match: only over the version with this etag. Raises NameTaken for a lost race.
        """
        if len(data) > MAX_NAMED_BYTES:
            raise StoreError(Problem("store.put_named", f"must not be larger than {MAX_NAMED_BYTES} bytes", name, "store it as a payload"))
        return self.backend.write(_name_key(name), data, Condition(if_absent, if_match))

    def get_named(self, name: str) -> NamedObject | None:
        """The object under a name, or None."""
        return self.backend.read(_name_key(name), MAX_NAMED_BYTES)

    def list_named(self, prefix: str) -> list[str]:
        """Names that start with the prefix, sorted."""
        return sorted(info.key.removeprefix("named/") for info in self.backend.list(f"named/{prefix}"))

    def delete_named(self, name: str) -> None:
        """Removes a name. Only leases and garbage collection do this."""
        self.backend.delete(_name_key(name))

    def check(self) -> None:
        """Writes, reads and deletes a small object. Raises StoreError with what is wrong."""
        name, data = f"checks/{uuid.uuid4().hex}", os.urandom(32)
        self.put_named(name, data, if_absent=True)
        found = self.get_named(name)
        self.delete_named(name)
        if found is None or found.data != data:
            raise StoreError(Problem("store.url", "does not give back what was written", self.url, "look at the server's log"))

    def _locate(self, digest: str, path_in_folder: str | None) -> tuple[str, str]:
        if path_in_folder is None:
            return blob_key(digest), digest
        for entry in self.tree(digest):
            if entry.path == path_in_folder:
                return blob_key(entry.sha256, entry.md5), entry.sha256
        raise PayloadMissing(Problem("store.payload", "the folder has no such file", f"{digest}/{path_in_folder}"))

    def _find_tree(self, digest: str, *, cached: bool = True) -> list[TreeEntry] | None:
        if cached and digest in self._trees:
            return self._trees[digest]
        found = self.backend.read(tree_key(digest), MAX_TREE_BYTES)
        if found is None:
            return None
        entries = parse_tree(found.data, digest)
        if len(self._trees) >= NUM_CACHED_TREES:
            self._trees.clear()
        self._trees[digest] = entries
        return entries

    def _get_files(self, entries: list[TreeEntry], digest: str, folder: Path) -> None:
        folder.mkdir()
        for parent in sorted({Path(entry.path).parent for entry in entries}):
            (folder / parent).mkdir(parents=True, exist_ok=True)
        with progress_bar(self._console, "fetching", sum(entry.size_bytes for entry in entries)) as advance:
            for group, num_workers in _by_size(entries, self.backend.num_workers):
                run_parallel(lambda entry: self._get_blob(entry, digest, folder / entry.path, advance), group, num_workers)

    def _get_blob(self, entry: TreeEntry, digest: str, path: Path, advance: Advance = int) -> None:
        """Writes one verified file; `path` lies in a folder that nobody else sees yet."""
        key = blob_key(entry.sha256, entry.md5)
        if entry.size_bytes <= SMALL_BYTES:
            found = self.backend.read(key, SMALL_BYTES)
            if found is None:
                raise _missing(digest, entry.path)
            actual = digest_bytes(found.data)
            _write_new(path, found.data)
        else:
            if not self.backend.download(key, path):
                raise _missing(digest, entry.path)
            actual = digest_file(path)
        if (actual.sha256, actual.size_bytes) != (entry.sha256, entry.size_bytes):
            raise changed(digest, entry.path)
        advance(entry.size_bytes)


def _write_new(path: Path, data: bytes) -> None:
    """Unbuffered: for a small file, Python's own opening and closing takes longer than the write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        num_written = os.write(descriptor, data)
        while num_written < len(data):
            num_written += os.write(descriptor, data[num_written:])
    finally:
        os.close(descriptor)


def _by_size(entries: list[TreeEntry], num_workers: int) -> Iterator[tuple[list[TreeEntry], int]]:
    yield [entry for entry in entries if entry.size_bytes <= SMALL_BYTES], num_workers
    yield [entry for entry in entries if entry.size_bytes > SMALL_BYTES], NUM_LARGE_FILES


def _refuse_full_folder(destination: Path) -> None:
    if destination.is_symlink() or destination.is_file() or (destination.is_dir() and any(destination.iterdir())):
        raise StoreError(
            Problem("store.get", "a folder payload needs a destination that is absent or empty", str(destination), "choose another folder")
        )


def _name_key(name: str) -> str:
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME_CHARS or any(part in (".", "..") for part in name.split("/")):
        rule = "a name is made of letters, digits and ._=@+,:- in parts separated by /"
        raise StoreError(Problem("store.name", rule, name, "choose another name"))
    return f"named/{name}"


def _missing(digest: str, path: str) -> PayloadMissing:
    where = f"{digest}/{path}" if path and path != "." else digest
    return PayloadMissing(
        Problem("store.payload", "the store does not hold it", where, "run the job that makes it again, or look in the right store")
    )
