"""Shards: tar files of samples with an index of offsets and SHA-256 digests; the first form every image takes on its way to training.

A shard is an ordinary WebDataset tar (`<key>.<extension>` and `<key>.json`). Its index, written last, commits it: a shard without an
index was never finished. Reading one sample is one ranged read, checked against its digest.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from imagewright.errors import InputError, Problem

SHARDS_FOLDER = "shards"
INDEX_SUFFIX = ".index.jsonl"
PARTIAL_SUFFIX = ".partial"
KEY_PATTERN = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,79}$")
EXTENSION_PATTERN = re.compile(r"^[a-z0-9]{1,8}$")
MAX_INDEX_BYTES = 256 << 20
MAX_SAMPLE_BYTES = 256 << 20


class ShardError(InputError):
    """A shard, an index or a sample that is not what its index says."""


@dataclass(frozen=True)
class SampleLocation:
    """Where one sample's image bytes lie, and what they must hash to."""

    sample_key: str
    shard: str
    """File name of the tar inside the shards folder."""
    offset: int
    """First byte of the image inside the tar."""
    length: int
    """Number of image bytes."""
    sha256: str
    extension: str


class ShardWriter:
    """Writes samples into `folder` as numbered shards of at most `samples_per_shard`; each shard appears whole or not at all.

    Use as a context manager: an exception discards the unfinished shard and keeps the finished ones.
    """

    def __init__(self, folder: Path, samples_per_shard: int = 1024, prefix: str = "shard") -> None:
        assert samples_per_shard > 0, "a shard holds at least one sample"
        self.folder = folder
        self.samples_per_shard = samples_per_shard
        self.prefix = prefix
        self.num_shards = 0
        self._keys: set[str] = set()
        self._entries: list[SampleLocation] = []
        self._tar: tarfile.TarFile | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, sample_key: str, extension: str, image: bytes, metadata: Mapping[str, Any]) -> SampleLocation:
        """Appends one sample. Raises ShardError for a key that is malformed or already used, or a sample over the size limit."""
        if not KEY_PATTERN.match(sample_key) or not EXTENSION_PATTERN.match(extension):
            raise ShardError(Problem("sample_key", f"must match {KEY_PATTERN.pattern}", f"{sample_key}.{extension}", "rename the sample"))
        if sample_key in self._keys:
            raise ShardError(Problem("sample_key", "must be used once", sample_key, "give every sample its own permanent key"))
        if len(image) > MAX_SAMPLE_BYTES:
            raise ShardError(Problem("sample", f"must be smaller than {MAX_SAMPLE_BYTES} bytes", len(image), "leave this file out"))
        if self._tar is None:
            self._tar = tarfile.open(self._partial(), "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 - closed by _finish
        offset = append_member(self._tar, f"{sample_key}.{extension}", image)
        text = json.dumps(metadata, ensure_ascii=False, sort_keys=True).encode()
        append_member(self._tar, f"{sample_key}.json", text)
        location = SampleLocation(sample_key, self._name(), offset, len(image), hashlib.sha256(image).hexdigest(), extension)
        self._keys.add(sample_key)
        self._entries.append(location)
        if len(self._entries) == self.samples_per_shard:
            self._finish()
        return location

    def close(self) -> None:
        """Finishes the last shard."""
        if self._entries:
            self._finish()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        elif self._tar is not None:
            self._tar.close()
            self._partial().unlink(missing_ok=True)

    def _name(self) -> str:
        return f"{self.prefix}-{self.num_shards:05d}.tar"

    def _partial(self) -> Path:
        return self.folder / (self._name() + PARTIAL_SUFFIX)

    def _finish(self) -> None:
        assert self._tar is not None
        self._tar.close()
        partial = self._partial()
        head = {"shard": self._name(), "num_samples": len(self._entries), "size_bytes": partial.stat().st_size}
        lines = [json.dumps(head), *(json.dumps(asdict(entry)) for entry in self._entries)]
        index = index_path(self.folder / self._name())
        index_partial = index.with_name(index.name + PARTIAL_SUFFIX)
        index_partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
        # Order matters: the index commits the shard, so it appears after the tar.
        partial.replace(self.folder / self._name())
        index_partial.replace(index)
        self._entries, self._tar = [], None
        self.num_shards += 1


def append_member(tar: tarfile.TarFile, name: str, payload: bytes) -> int:
    """Adds a member with a fixed header (no time, no owner), so equal samples make equal shards. Returns the payload's offset."""
    info = tarfile.TarInfo(name)
    info.size = len(payload)
    tar.addfile(info, io.BytesIO(payload))
    padded = -(-len(payload) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return tar.offset - padded


def index_path(shard: Path) -> Path:
    """Path of a shard's index."""
    return shard.with_suffix(INDEX_SUFFIX)


def read_index(shard: Path) -> list[SampleLocation]:
    """Reads a shard's index. Raises ShardError when it is missing, too large, malformed, or promises more samples than it lists."""
    path = index_path(shard)
    try:
        with path.open("rb") as file:
            text = file.read(MAX_INDEX_BYTES + 1)
        assert len(text) <= MAX_INDEX_BYTES, "index over the size limit"
        head, *lines = text.decode().splitlines()
        entries = [SampleLocation(**json.loads(line)) for line in lines]
        if json.loads(head)["num_samples"] != len(entries):
            raise ValueError("the index was cut")
    except (OSError, ValueError, TypeError, KeyError, AssertionError) as error:
        raise ShardError(Problem("shard.index", f"cannot be read: {error}", path.name, "write the shard again")) from error
    return entries


class ShardReader:
    """Reads single samples out of a folder of shards, each checked against its digest. Safe to share between threads and forks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, int] = {}

    def read(self, shard: str, offset: int, length: int, sha256: str) -> bytes:
        """Returns the image bytes of one sample. Raises ShardError when the shard is missing or cut, or the bytes changed."""
        problem = None
        payload = b""
        if Path(shard).name != shard or not 0 <= length <= MAX_SAMPLE_BYTES or offset < 0:
            problem = "has an impossible location"
        else:
            try:
                payload = os.pread(self._open(shard), length, offset)
            except OSError as error:
                problem = f"cannot be read: {error.strerror}"
        if problem is None and len(payload) < length:
            problem = "lies in a shard that was cut"
        if problem is None and hashlib.sha256(payload).hexdigest() != sha256:
            problem = "does not match its digest"
        if problem is not None:
            raise ShardError(Problem("sample", problem, f"{shard}@{offset}+{length}", "restore the shard or drop the sample"))
        return payload

    def read_location(self, location: SampleLocation) -> bytes:
        """Returns the image bytes at `location`."""
        return self.read(location.shard, location.offset, location.length, location.sha256)

    def close(self) -> None:
        """Closes every open shard."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()

    def _open(self, shard: str) -> int:
        if shard not in self._files:
            self._files[shard] = os.open(self.folder / shard, os.O_RDONLY)
        return self._files[shard]

    def __enter__(self) -> ShardReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def list_shards(folder: Path) -> list[Path]:
    """Finished shards of a folder, in order."""
    return sorted(path for path in folder.glob("*.tar") if index_path(path).exists())


def iterate_shards(folder: Path) -> Iterator[SampleLocation]:
    """Every location listed by the indexes of a folder of shards."""
    for shard in list_shards(folder):
        yield from read_index(shard)


@dataclass
class ShardCheck:
    """What `check_shards` found; num_samples = num_good + len(damaged)."""

    num_samples: int = 0
    num_good: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    """Sample key -> why it cannot be read."""
    unfinished: list[str] = field(default_factory=list)
    """Tars without an index."""


def check_shards(folder: Path) -> ShardCheck:
    """Reads every sample of a folder of shards and counts what is cut, changed or unfinished. Never raises for a bad shard."""
    found = ShardCheck(unfinished=sorted(path.name for path in folder.glob("*.tar*") if not index_path(path.with_suffix(".tar")).exists()))
    with ShardReader(folder) as reader:
        for shard in list_shards(folder):
            try:
                entries = read_index(shard)
            except ShardError as error:
                found.unfinished.append(f"{shard.name}: {error}")
                continue
            for entry in entries:
                found.num_samples += 1
                try:
                    reader.read_location(entry)
                    found.num_good += 1
                except ShardError as error:
                    found.damaged[entry.sample_key] = error.problems[0].rule
    return found
