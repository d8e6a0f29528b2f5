"""The layout of a folder of encoded samples: its contract, its index tables and how their integrity is checked.

`latents.py` writes and reads such folders; nothing else knows these files.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, ValidationError
from torch import Tensor

from imagewright.config.base import Section
from imagewright.errors import InputError, Problem

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
CONTRACT_FILE = "contract.json"
SAMPLES_FILE = "samples.npy"
CAPTIONS_FILE = "captions.npy"
KEYS_FILE = "keys.npy"
ALIGNMENT = 64
DEFAULT_FILE_BYTES = 1 << 30
MAX_CONTRACT_BYTES = 16 << 20
SAMPLE_FIELDS = np.dtype(
    [
        ("file", "<u4"),
        ("height", "<u4"),
        ("width", "<u4"),
        ("crc", "<u4"),
        ("offset", "<u8"),
        ("first_caption", "<u8"),
        ("num_captions", "<u4"),
        ("category", "<u4"),
        ("sampling_weight", "<f4"),
    ]
)
CAPTION_FIELDS = np.dtype([("form", "<u4"), ("tokens", "<u4"), ("crc", "<u4"), ("offset", "<u8")])
STORED: dict[str, tuple[torch.dtype, np.dtype[Any]]] = {
    "float32": (torch.float32, np.dtype("<f4")),
    "bfloat16": (torch.bfloat16, np.dtype("<u2")),
}


class LatentsError(InputError):
    """A folder of encoded samples that is incomplete, damaged or made for another model."""


class CorruptSampleError(LatentsError):
    """One part of one sample does not match its checksum."""


class LatentsContract(Section):
    """What the numbers mean. Training on latents made under another contract would learn nothing, so it is refused."""

    schema_version: Literal[1] = 1
    vae_digest: str = ""
    """Digest of the VAE payload that made the latents."""
    stride: int = Field(ge=1, le=256)
    """Pixels per latent cell and side: 2**len(block_out_channels), 16 for the released VAE."""
    channels: int = Field(ge=1, le=65536)
    """Channels after 2x2 packing: 4 * latent_channels, 128 for the released VAE."""
    text_encoder_class: str = ""
    text_encoder_digest: str = ""
    text_layer: int = -2
    """Index into the text encoder's hidden states."""
    text_dim: int = Field(ge=1, le=65536)
    max_tokens: int = Field(default=512, ge=1, le=1 << 20)
    """Prompts were cut to this many tokens."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """How numbers are stored; samples are returned in this type."""

    def require(self, **expected: object) -> None:
        """Refuses when a named field differs, all differences at once; an expected value of None or "" is not compared."""
        problems = [
            Problem(
                f"latents.{name}",
                f"must be {value!r}: the latents were made with another setting",
                getattr(self, name),
                "encode the data again with this model's VAE and text encoder, or give the model those latents were made for",
            )
            for name, value in expected.items()
            if value not in (None, "") and getattr(self, name) != value
        ]
        if problems:
            raise LatentsError(problems)


class LatentsIndex(Section):
    """The committed description of a folder: written last, so a folder without it was cut short."""

    contract: LatentsContract
    forms: tuple[str, ...]
    categories: tuple[str, ...]
    num_samples: int = Field(ge=0)
    data_files: tuple[int, ...]
    """Bytes of `data-00000.bin`, `data-00001.bin`, ..."""
    sha256: dict[str, str]
    """Digest of every index file."""
    empty_prompt: tuple[int, ...]
    """The encoded empty prompt, [T, text_dim] flattened, as stored bit patterns."""


def to_bytes(tensor: Tensor, contract: LatentsContract) -> bytes:
    """Little-endian bytes of `tensor` in the contract's type."""
    dtype, _ = STORED[contract.dtype]
    plain = tensor.detach().to("cpu", dtype).contiguous()
    return plain.view(torch.uint8).numpy().tobytes()


def bit_type(contract: LatentsContract) -> np.dtype[Any]:
    """Unsigned integers as wide as a stored number: the empty prompt is kept in the JSON as exact bit patterns."""
    return np.dtype(f"<u{STORED[contract.dtype][1].itemsize}")


def data_path(folder: Path, number: int) -> Path:
    """Path of data file `number`."""
    return folder / f"data-{number:05d}.bin"


def sync_and_close(file: Any) -> None:
    """Data must be on disk before the contract that vouches for it."""
    file.flush()
    os.fsync(file.fileno())
    file.close()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_index(folder: Path) -> LatentsIndex:
    """Reads the contract file of a committed folder."""
    path = folder / CONTRACT_FILE
    try:
        with path.open("rb") as file:
            text = file.read(MAX_CONTRACT_BYTES + 1)
        assert len(text) <= MAX_CONTRACT_BYTES
        index = LatentsIndex.model_validate_json(text, strict=True)
    except FileNotFoundError as error:
        raise LatentsError(
            Problem("latents", "is not a finished folder of latents: it holds no contract", str(folder), "run encode-latents to its end")
        ) from error
    except (OSError, ValidationError, AssertionError) as error:
        raise LatentsError(Problem("latents.contract", "cannot be read", str(path), "encode the data again")) from error
    if not index.num_samples:
        raise LatentsError(Problem("latents", "must hold at least one sample", str(folder), "check what curation dropped"))
    return index


def load_table(folder: Path, name: str, digests: dict[str, str]) -> np.ndarray[Any, np.dtype[Any]]:
    """One index table, verified."""
    path = folder / name
    if not path.is_file() or file_sha256(path) != digests.get(name):
        raise LatentsError(
            Problem(f"latents.{name}", "is missing or does not match its checksum", str(path), "fetch or encode the data again")
        )
    table: np.ndarray[Any, np.dtype[Any]] = np.load(path, allow_pickle=False)
    return table


def open_map(path: Path, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Memory map of one data file; its length is checked at once, its content as it is read."""
    found = path.stat().st_size if path.is_file() else None
    if found != size:
        rule = f"must have {size} bytes"
        raise LatentsError(Problem(f"latents.{path.name}", rule, found, "the file was cut or lost: fetch or encode the data again"))
    if not size:
        return np.zeros(0, np.uint8)
    # A plain view of the map: np.memmap's own slicing costs more than reading a small sample.
    return np.asarray(np.memmap(path, dtype=np.uint8, mode="r", shape=(size,)).view(np.ndarray))


def copy_parts(
    contents: Sequence[Bytes],
    offsets: Sequence[Sequence[int]],
    sizes: Sequence[Sequence[int]],
    crcs: Sequence[Sequence[int]],
    dtype: torch.dtype,
) -> tuple[Sequence[Tensor], list[bool]]:
    """Copies both parts of every sample to one buffer and compares them with their checksums.

    contents [n]: the data file of every sample. offsets, sizes, crcs [n][2]: where its latents and its prompt lie, [bytes]. Returns the
    buffer's pieces - latents, padding, prompt, padding of every sample - and which samples are whole.
    """
    flat = [size for pair in sizes for size in pair]
    padded = [size + -size % ALIGNMENT for size in flat]
    buffer = torch.empty(sum(padded), dtype=torch.uint8)
    copies, start, whole = buffer.numpy(), 0, []
    for content, places, lengths, expected in zip(contents, offsets, sizes, crcs, strict=True):
        equal = True
        for offset, size, crc in zip(places, lengths, expected, strict=True):
            piece, slot = content[offset : offset + size], copies[start : start + size]
            if equal := equal and len(piece) == size:
                slot[:] = piece
                equal = zlib.crc32(slot.data) == crc
            start += size + -size % ALIGNMENT
        whole.append(equal)
    cuts = [part // dtype.itemsize for size, total in zip(flat, padded, strict=True) for part in (size, total - size)]
    return torch.split(buffer.view(dtype), cuts), whole
