"""The store in a local folder: for single jobs and tests. A write is a temporary file, fsync and one atomic rename."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from imagewright.errors import Problem
from imagewright.storage.backend import Condition, NamedObject, ObjectInfo
from imagewright.storage.digests import FileDigest, VerifyingReader
from imagewright.storage.errors import NameTaken, StoreAccessDenied, StoreError

TEMPORARY_FOLDER = ".partial"
LOCK_FOLDER = ".locks"
COPY_BYTES = 1 << 20


class LocalBackend:
    """Keys are paths below `root`. An etag is the SHA-256 of the content."""

    num_workers = 4

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def url(self) -> str:
        """`file://` and the folder."""
        return f"file://{self.root}"

    def read(self, key: str, limit_bytes: int) -> NamedObject | None:
        """See Backend."""
        with self._explained("read"):
            try:
                with (self.root / key).open("rb") as file:
                    data = file.read(limit_bytes + 1)
            except (FileNotFoundError, NotADirectoryError):
                return None
        if len(data) > limit_bytes:
            raise too_large(key, limit_bytes)
        return NamedObject(data, hashlib.sha256(data).hexdigest())

    def read_range(self, key: str, start: int, length: int) -> bytes | None:
        """See Backend."""
        with self._explained("read"):
            try:
                with (self.root / key).open("rb") as file:
                    file.seek(start)
                    return file.read(length)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def download(self, key: str, path: Path) -> bool:
        """See Backend."""
        with self._explained("read"):
            try:
                source = (self.root / key).open("rb")
            except (FileNotFoundError, NotADirectoryError):
                return False
        try:
            with source, path.open("wb") as file:
                shutil.copyfileobj(source, file, COPY_BYTES)
        except OSError as error:
            raise explain_os_error(error, "write", str(path)) from error
        return True

    def write(self, key: str, data: bytes, condition: Condition | None = None) -> str:
        """See Backend."""
        with self._explained("write"), self._new_file() as temporary:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self._publish(temporary, key, condition)
        return hashlib.sha256(data).hexdigest()

    def write_file(self, key: str, path: Path, expected: FileDigest) -> None:
        """See Backend."""
        with self._explained("write"), self._new_file() as temporary:
            with path.open("rb") as source, temporary.open("wb") as file:
                shutil.copyfileobj(VerifyingReader(source, expected, str(path)), file, COPY_BYTES)
                file.flush()
                os.fsync(file.fileno())
            self._publish(temporary, key, None)

    def stat(self, key: str) -> ObjectInfo | None:
        """See Backend; the etag is left empty because it would mean reading the file."""
        with self._explained("read"):
            try:
                status = (self.root / key).stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
        return ObjectInfo(key, status.st_size, "", datetime.fromtimestamp(status.st_mtime, UTC))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See Backend."""
        folder = self.root / prefix.rpartition("/")[0]
        for parent, folders, names in os.walk(folder):
            relative = Path(parent).relative_to(self.root)
            if relative == Path():
                folders[:] = [name for name in folders if name not in (TEMPORARY_FOLDER, LOCK_FOLDER)]
            for name in names:
                key = (relative / name).as_posix()
                if key.startswith(prefix) and (info := self.stat(key)):
                    yield info

    def delete(self, key: str) -> None:
        """See Backend."""
        with self._explained("delete"), self._lock(key):
            (self.root / key).unlink(missing_ok=True)

    def touch(self, key: str) -> bool:
        """See Backend."""
        with self._explained("write"):
            try:
                os.utime(self.root / key)
            except FileNotFoundError:
                return False
        return True

    def remove_partial(self, older_than: datetime) -> int:
        """See Backend."""
        num_removed = 0
        for path in (self.root / TEMPORARY_FOLDER).glob("*"):
            with contextlib.suppress(FileNotFoundError):
                if datetime.fromtimestamp(path.stat().st_mtime, UTC) < older_than:
                    path.unlink()
                    num_removed += 1
        return num_removed

    @contextlib.contextmanager
    def _new_file(self) -> Iterator[Path]:
        folder = self.root / TEMPORARY_FOLDER
        if not folder.is_dir():
            self.root.mkdir(exist_ok=True)
            folder.mkdir(exist_ok=True)
        path = folder / uuid.uuid4().hex
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _publish(self, temporary: Path, key: str, condition: Condition | None) -> None:
        target = self.root / key
        if not target.parent.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
        if condition is None or condition == Condition():
            temporary.replace(target)
        elif condition.if_absent:
            try:
                os.link(temporary, target)
            except FileExistsError as error:
                raise name_taken(key) from error
        else:
            with self._lock(key):
                if not target.is_file() or hashlib.sha256(target.read_bytes()).hexdigest() != condition.if_match:
                    raise name_taken(key)
                temporary.replace(target)
        _sync_folder(target.parent)

    @contextlib.contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        folder = self.root / LOCK_FOLDER
        folder.mkdir(exist_ok=True)
        with (folder / hashlib.sha256(key.encode()).hexdigest()[:2]).open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise explain_os_error(error, action, self.url) from error


def explain_os_error(error: OSError, action: str, url: str) -> StoreError:
    """A StoreError that says what the operating system refused and what to do about it."""
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StoreAccessDenied(
            Problem("store.url", f"must allow to {action}: {error.strerror}", url, "check the owner and mode of the folder")
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreError(
            Problem("store.disk", f"has no room left to {action}: {error.strerror}", url, "free space, or run `imagewright store gc`")
        )
    if error.errno == errno.ENOENT:
        return StoreError(Problem("store.url", f"must exist to {action}: {error}", url, "create or mount the folder"))
    return StoreError(Problem("store.url", f"cannot {action}: {error}", url, "check the file system"))


def name_taken(key: str) -> NameTaken:
    """The error of a conditional write that lost."""
    return NameTaken(Problem("store.name", "was written by somebody else first", key, "read it again and decide anew"))


def too_large(key: str, limit_bytes: int) -> StoreError:
    """The error of a bounded read."""
    return StoreError(Problem("store.read", f"must not be larger than {limit_bytes} bytes", key, "fetch it to a file instead"))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
