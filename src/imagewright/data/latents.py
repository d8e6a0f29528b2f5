"""Encoded samples on disk: latents and prompt embeddings in a fixed layout, read by memory map, every part under a checksum.

The encode job writes this folder, every training job on images reads it; `packed_loader` decides the order.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imagewright.data.latents_layout import (
    ALIGNMENT,
    CAPTION_FIELDS,
    CAPTIONS_FILE,
    CONTRACT_FILE,
    DEFAULT_FILE_BYTES,
    KEYS_FILE,
    SAMPLE_FIELDS,
    SAMPLES_FILE,
    STORED,
    CorruptSampleError,
    LatentsContract,
    LatentsError,
    LatentsIndex,
    bit_type,
    copy_parts,
    data_path,
    file_sha256,
    load_table,
    open_map,
    read_index,
    sync_and_close,
    to_bytes,
)
from imagewright.errors import Problem

__all__ = [
    "CorruptSampleError",
    "EncodedCaption",
    "EncodedSample",
    "LatentsContract",
    "LatentsDataset",
    "LatentsError",
    "LatentsWriter",
]


NOTHING = np.zeros(0, np.uint8)
"""Content of a data file that is not there."""


@dataclass(frozen=True)
class EncodedCaption:
    """One caption of a sample: its form (`long`, `tags`, ...) and prompt_embeds [T, D]."""

    form: str
    prompt_embeds: Tensor


@dataclass(frozen=True)
class EncodedSample:
    """One sample as read: latents [C, h, w] and the prompt_embeds [T, D] of the caption asked for."""

    sample_key: str
    latents: Tensor
    prompt_embeds: Tensor
    form: str
    category: str


class LatentsWriter:
    """Writes encoded samples; `close` commits. A folder that was not closed is refused by `LatentsDataset`."""

    def __init__(self, folder: Path, contract: LatentsContract, empty_prompt: Tensor, *, file_bytes: int = DEFAULT_FILE_BYTES) -> None:
        """empty_prompt: prompt_embeds [T, D] of "", used for caption dropout (zeros are not the empty prompt)."""
        check_embeds(empty_prompt, contract, "empty_prompt")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONTRACT_FILE).unlink(missing_ok=True)
        self.folder, self.contract, self.file_bytes = folder, contract, file_bytes
        self.empty_prompt = empty_prompt
        self.samples: list[tuple[Any, ...]] = []
        self.captions: list[tuple[Any, ...]] = []
        self.keys: list[bytes] = []
        self.seen: set[tuple[bytes, int, int]] = set()
        self.forms: dict[str, int] = {}
        self.categories: dict[str, int] = {}
        self.sizes: list[int] = []
        self.file: Any = None

    def __enter__(self) -> LatentsWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        elif self.file is not None:
            self.file.close()

    def add(
        self, sample_key: str, latents: Tensor, captions: Sequence[EncodedCaption], *, category: str = "", sampling_weight: float = 1.0
    ) -> None:
        """Appends one sample: latents [C, h, w], at least one caption. Raises LatentsError and writes nothing when a part is wrong."""
        key = sample_key.encode()
        check_sample(sample_key, latents, captions, sampling_weight, self.contract)
        _, height, width = latents.shape
        if (key, height, width) in self.seen:
            raise LatentsError(Problem(sample_key, "is in this folder already", [height, width], "write each sample once for a size"))
        if self.file is None or self.sizes[-1] >= self.file_bytes:
            self.open_next_file()
        offset, crc = self.write(latents)
        first = len(self.captions)
        for caption in captions:
            form = self.forms.setdefault(caption.form, len(self.forms))
            place, caption_crc = self.write(caption.prompt_embeds)
            self.captions.append((form, caption.prompt_embeds.shape[0], caption_crc, place))
        number = self.categories.setdefault(category, len(self.categories))
        self.samples.append((len(self.sizes) - 1, height, width, crc, offset, first, len(captions), number, sampling_weight))
        self.keys.append(key)
        self.seen.add((key, height, width))

    def close(self) -> None:
        """Writes the index files, then the contract in one atomic rename: the commit."""
        if self.file is not None:
            sync_and_close(self.file)
        width = max((len(key) for key in self.keys), default=1)
        tables = {
            SAMPLES_FILE: np.array(self.samples, dtype=SAMPLE_FIELDS),
            CAPTIONS_FILE: np.array(self.captions, dtype=CAPTION_FIELDS),
            KEYS_FILE: np.array(self.keys, dtype=f"S{width}"),
        }
        for name, table in tables.items():
            with (self.folder / name).open("wb") as file:
                np.save(file, table, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
        index = LatentsIndex(
            contract=self.contract,
            forms=tuple(self.forms),
            categories=tuple(self.categories),
            num_samples=len(self.samples),
            data_files=tuple(self.sizes),
            sha256={name: file_sha256(self.folder / name) for name in tables},
            empty_prompt=tuple(np.frombuffer(to_bytes(self.empty_prompt, self.contract), bit_type(self.contract)).tolist()),
        )
        partial = self.folder / f"{CONTRACT_FILE}.partial"
        partial.write_text(index.model_dump_json(indent=1), encoding="utf-8")
        partial.replace(self.folder / CONTRACT_FILE)

    def open_next_file(self) -> None:
        """Starts the next data file, so that no file grows beyond file_bytes by more than one sample."""
        if self.file is not None:
            sync_and_close(self.file)
        self.file = data_path(self.folder, len(self.sizes)).open("wb")
        self.sizes.append(0)

    def write(self, tensor: Tensor) -> tuple[int, int]:
        """Appends one tensor, padded to the alignment; returns (offset, crc32)."""
        content = to_bytes(tensor, self.contract)
        offset = self.sizes[-1]
        self.file.write(content)
        self.file.write(bytes(-len(content) % ALIGNMENT))
        self.sizes[-1] += len(content) + -len(content) % ALIGNMENT
        return offset, zlib.crc32(content)


class LatentsDataset:
    """Random access to a committed folder. Opening reads the index only; samples come from memory maps and are verified as read."""

    def __init__(self, folder: Path) -> None:
        """Raises LatentsError when the folder is not committed, an index file is damaged or a data file is cut short."""
        self.folder = folder
        self.index = read_index(folder)
        self.contract = self.index.contract
        samples, captions, keys = (load_table(folder, name, self.index.sha256) for name in (SAMPLES_FILE, CAPTIONS_FILE, KEYS_FILE))
        if samples.dtype != SAMPLE_FIELDS or captions.dtype != CAPTION_FIELDS or not len(samples) == len(keys) == self.index.num_samples:
            raise LatentsError(Problem("latents", "the index files do not belong together", str(folder), "encode the data again"))
        self.samples, self.captions, self.keys = samples, captions, keys
        self.torch_dtype, self.stored = STORED[self.contract.dtype]
        self.item_bytes = self.stored.itemsize
        self.maps = [open_map(data_path(folder, number), size) for number, size in enumerate(self.index.data_files)]
        # The digest names this data in draw lists: same bytes, same order of samples at every resume.
        self.digest = hashlib.sha256((folder / CONTRACT_FILE).read_bytes()).hexdigest()
        bits = np.array(self.index.empty_prompt, dtype=bit_type(self.contract))
        self.empty_prompt: Tensor = torch.from_numpy(bits.view(self.stored).copy()).view(self.torch_dtype).view(-1, self.contract.text_dim)

    def __len__(self) -> int:
        return len(self.samples)

    def sample_key(self, index: int) -> str:
        """The permanent id of sample `index`."""
        return bytes(self.keys[index]).decode()

    def image_tokens(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Image tokens h * w of every sample, [len]."""
        tokens: np.ndarray[Any, np.dtype[np.int64]] = self.samples["height"].astype(np.int64) * self.samples["width"].astype(np.int64)
        return tokens

    def at_resolution(self, resolution: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Indices of the samples whose area is nearest to resolution**2 pixels (within a factor of 2 either way), any aspect.

        Raises LatentsError naming the resolutions present when there is none.
        """
        side = np.sqrt(self.image_tokens().astype(np.float64)) * self.contract.stride
        chosen = np.flatnonzero(np.abs(np.log2(side / resolution)) < 0.5) if len(side) else np.zeros(0, np.int64)
        if not len(chosen):
            present = sorted({int(value) for value in np.round(side).tolist()})[:8]
            raise LatentsError(
                Problem(
                    "latents", f"hold no sample near {resolution} px", present, "encode the data at this resolution or change the stage"
                )
            )
        return chosen

    def read(self, index: int, caption: int = 0) -> EncodedSample:
        """Sample `index` with its caption number `caption`; -1 gives the encoded empty prompt (caption dropout).

        Raises CorruptSampleError when the bytes read do not match their checksum.
        """
        (sample,) = self.read_pack([index], [caption])
        if sample is None:
            path, fix = data_path(self.folder, int(self.samples[index]["file"])), "fetch or encode the data again"
            raise CorruptSampleError(Problem(self.sample_key(index), "does not match its checksum", str(path), fix))
        return sample

    def read_pack(self, indices: Sequence[int], captions: Sequence[int]) -> list[EncodedSample | None]:
        """Several samples as `read` gives them, None for the corrupt ones; their tensors share one buffer.

        The buffer is a private copy: training must never see later changes of the file. One for all, because memory for every small
        tensor anew costs about as much as copying into it.
        """
        rows, numbers = self.samples[list(indices)], np.array(captions, dtype=np.int64)
        assert bool((numbers < rows["num_captions"]).all()), "a sample has no caption of this number"
        texts = self.captions[rows["first_caption"].astype(np.int64) + numbers.clip(0)]
        areas = rows["height"].astype(np.int64) * rows["width"].astype(np.int64)
        lengths = np.where(numbers < 0, 0, texts["tokens"].astype(np.int64))
        sizes = np.stack([areas * self.contract.channels, lengths * self.contract.text_dim], axis=1) * self.item_bytes
        offsets, crcs = np.stack([rows["offset"], texts["offset"]], axis=1), np.stack([rows["crc"], texts["crc"]], axis=1)
        crcs[numbers < 0, 1] = zlib.crc32(b"")
        contents = [self.maps[file] if file < len(self.maps) else NOTHING for file in rows["file"].tolist()]
        slots, whole = copy_parts(contents, offsets.tolist(), sizes.tolist(), crcs.tolist(), self.torch_dtype)
        found: list[EncodedSample | None] = []
        for place, row in enumerate(zip(rows["height"].tolist(), rows["width"].tolist(), rows["category"].tolist(), strict=True)):
            height, width, category = row
            if not whole[place]:
                found.append(None)
                continue
            latents = slots[4 * place].view(self.contract.channels, height, width)
            embeds, form = self.empty_prompt, ""
            if numbers[place] >= 0:
                embeds, form = slots[4 * place + 2].view(-1, self.contract.text_dim), self.index.forms[texts["form"][place]]
            found.append(EncodedSample(self.sample_key(indices[place]), latents, embeds, form, self.index.categories[category]))
        return found

    def verify(self) -> list[str]:
        """Reads everything once; returns the keys of the corrupt samples."""
        corrupt = []
        for index in range(len(self)):
            try:
                for caption in range(int(self.samples[index]["num_captions"])):
                    self.read(index, caption)
            except CorruptSampleError:
                corrupt.append(self.sample_key(index))
        return corrupt


def check_sample(key: str, latents: Tensor, captions: Sequence[EncodedCaption], weight: float, contract: LatentsContract) -> None:
    """Raises LatentsError when a sample breaks the contract."""
    problems = []
    if latents.ndim != 3 or latents.shape[0] != contract.channels or 0 in latents.shape:
        problems.append(
            Problem(f"{key}.latents", f"must be [{contract.channels}, h, w]", list(latents.shape), "pack 2x2 and normalise first")
        )
    elif not bool(torch.isfinite(latents).all()):
        problems.append(Problem(f"{key}.latents", "must be finite", "NaN or infinity", "drop this sample and count it"))
    if not captions:
        problems.append(Problem(f"{key}.captions", "must hold at least one caption", fix="drop this sample and count it"))
    if not (0.0 <= weight < float("inf")):
        problems.append(Problem(f"{key}.sampling_weight", "must be finite and not negative", weight))
    if problems:
        raise LatentsError(problems)
    for caption in captions:
        check_embeds(caption.prompt_embeds, contract, f"{key}.captions.{caption.form}")


def check_embeds(embeds: Tensor, contract: LatentsContract, where: str) -> None:
    """Raises LatentsError unless embeds are finite [1..max_tokens, text_dim]."""
    if embeds.ndim != 2 or embeds.shape[1] != contract.text_dim or not 1 <= embeds.shape[0] <= contract.max_tokens:
        rule = f"must be [1..{contract.max_tokens}, {contract.text_dim}]"
        raise LatentsError(Problem(where, rule, list(embeds.shape), "use the text encoder the contract names, unpadded"))
    if not bool(torch.isfinite(embeds).all()):
        raise LatentsError(Problem(where, "must be finite", "NaN or infinity", "drop this sample and count it"))
