"""A folder as one object: the canonical JSON list of its files, whose SHA-256 is the digest of the folder."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from imagewright.errors import Problem
from imagewright.storage.errors import PayloadChanged, StoreError

MAX_TREE_BYTES = 512 << 20
DVC_FILES = "dvc/files/md5"


class TreeEntry(BaseModel):
    """One file of a folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    """Relative to the folder, with forward slashes."""
    size_bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    md5: str = Field(default="", pattern=r"^([0-9a-f]{32})?$")
    """Set for files stored in DVC's layout."""


@dataclass(frozen=True)
class DvcFolder:
    """What a `.dvc` file says about a folder. md5: with its `.dir` ending. data: the `.dir` object itself."""

    md5: str
    size_bytes: int
    num_files: int
    data: bytes


_ENTRIES = TypeAdapter(list[TreeEntry])


def tree_bytes(entries: Iterable[TreeEntry]) -> bytes:
    """Canonical JSON: sorted by path, sorted keys, no spaces, an empty md5 left out."""
    rows = [entry.model_dump(exclude_defaults=True) for entry in sorted(entries, key=lambda entry: entry.path)]
    return json.dumps(rows, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def parse_tree(data: bytes, digest: str) -> list[TreeEntry]:
    """Entries of a tree object. Raises PayloadChanged when the bytes are not this digest's, StoreError when a path is unsafe."""
    if hashlib.sha256(data).hexdigest() != digest:
        raise changed(digest)
    try:
        entries = _ENTRIES.validate_json(data, strict=True)
    except ValidationError as error:
        raise StoreError(
            Problem("store.tree", f"is not a list of files: {error.errors()[0]['msg']}", digest, "store the folder again")
        ) from error
    _check_paths(entries, digest)
    return entries


def scan_folder(folder: Path) -> list[tuple[str, Path, int]]:
    """Every regular file below a folder as (relative path, path, bytes), sorted. Raises StoreError naming each that cannot be stored."""
    found: list[tuple[str, Path, int]] = []
    problems: list[Problem] = []
    if not folder.is_dir():
        raise StoreError(Problem("store.put", "must be a folder", str(folder), "give the folder to store"))
    pending = [folder]
    while pending:
        for entry in os.scandir(pending.pop()):
            path = Path(entry.path)
            relative = path.relative_to(folder).as_posix()
            if problem := _unfit(entry, relative):
                problems.append(problem)
            elif entry.is_dir(follow_symlinks=False):
                pending.append(path)
            else:
                found.append((relative, path, entry.stat(follow_symlinks=False).st_size))
    if problems:
        raise StoreError(problems)
    return sorted(found)


def _unfit(entry: os.DirEntry[str], relative: str) -> Problem | None:
    mode = entry.stat(follow_symlinks=False).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        kind = "a symbolic link" if stat.S_ISLNK(mode) else "not a file"
        return Problem(
            "store.put", f"holds {kind}: only files and folders can be stored", relative, "copy the folder with links resolved (cp -rL)"
        )
    try:
        relative.encode()
    except UnicodeEncodeError:
        return Problem("store.put", "a file name must be UTF-8", os.fsencode(relative), "rename the file")
    return None


def _check_paths(entries: list[TreeEntry], digest: str) -> None:
    """No path may leave the folder, appear twice, or be both a file and a folder."""
    files = {entry.path for entry in entries}
    problems = []
    if len(files) != len(entries):
        problems.append(Problem("store.tree", "must not name a file twice", digest))
    for entry in entries:
        path = PurePosixPath(entry.path)
        canonical = entry.path == path.as_posix() and "\0" not in entry.path
        if not canonical or not path.parts or path.is_absolute() or ".." in path.parts:
            problems.append(Problem("store.tree", "a path must stay inside the folder", entry.path, "do not use this payload"))
        elif any(parent.as_posix() in files for parent in path.parents):
            problems.append(Problem("store.tree", "a path must not lead through a file", entry.path, "do not use this payload"))
    if problems:
        raise StoreError(problems)


def dvc_folder(entries: Iterable[TreeEntry]) -> DvcFolder:
    """The `.dir` object that DVC 3 would write for these files (dvc_data.hashfile.tree.Tree.as_bytes)."""
    ordered = sorted(entries, key=lambda entry: entry.path)
    data = json.dumps([{"md5": entry.md5, "relpath": entry.path} for entry in ordered], sort_keys=True).encode()
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest() + ".dir"
    return DvcFolder(md5, sum(entry.size_bytes for entry in ordered), len(ordered), data)


def tree_key(digest: str) -> str:
    """Where a tree object lies."""
    return f"trees/{digest[:2]}/{digest[2:]}"


def blob_key(sha256: str, md5: str = "") -> str:
    """Where a file's content lies: under its SHA-256, or in DVC's layout when it has an MD5."""
    return f"{DVC_FILES}/{md5[:2]}/{md5[2:]}" if md5 else f"blobs/{sha256[:2]}/{sha256[2:]}"


def changed(digest: str, path: str = "") -> PayloadChanged:
    """The error for stored bytes that are not what their digest says."""
    where = f"{digest}/{path}" if path else digest
    return PayloadChanged(
        Problem("store.payload", "stored bytes differ from their digest", where, "store it again from its source; do not use this copy")
    )
