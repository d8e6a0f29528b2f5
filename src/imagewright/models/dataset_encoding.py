"""Curated images and captions -> a folder of latents and prompt embeddings, bucket by bucket, resumable chunk by chunk.

Every caption is encoded once however many images carry it; the contract names exactly what made the numbers.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from imagewright.config.latents import EncodingConfig
from imagewright.data.buckets import Bucket, aspect_buckets, nearest_bucket
from imagewright.data.latents import EncodedCaption, LatentsContract, LatentsWriter
from imagewright.data.manifest import Caption, ManifestRow
from imagewright.data.pixels import kept_rows, read_pixels
from imagewright.errors import InputError, Problem
from imagewright.models.text_encoder import TextEncoder
from imagewright.models.vae import Autoencoder, digest, encode, packed_channels, stride
from imagewright.models.vae_training import to_input

CAPTIONS_PER_CHUNK = 2048
IMAGES_PER_CHUNK = 2048

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Encoders:
    """What turns pixels and words into numbers."""

    vae: Autoencoder
    text_encoder: TextEncoder

    def contract(self, dtype: str) -> LatentsContract:
        """The contract of everything these two encode."""
        return LatentsContract.model_validate(
            {
                "vae_digest": digest(self.vae),
                "stride": stride(self.vae),
                "channels": packed_channels(self.vae),
                "text_encoder_class": self.text_encoder.class_name,
                "text_encoder_digest": self.text_encoder.digest,
                "text_layer": self.text_encoder.layer,
                "text_dim": self.text_encoder.dim,
                "max_tokens": self.text_encoder.max_tokens,
                "dtype": dtype,
            }
        )


def encode_dataset(
    config: EncodingConfig, curated: Path, encoders: Encoders, output: Path, work: Path, progress: Progress
) -> dict[str, int]:
    """Writes the latents folder `output`; returns counts. kept + dropped = in, for every resolution.

    Chunks under `work` carry the contract's digest, so a restarted job goes on and a stale chunk is never read.
    Raises InputError when nothing is left to encode or a resolution does not fit the stride.
    """
    contract = encoders.contract(config.dtype)
    cache = work / hashlib.sha256(contract.model_dump_json().encode()).hexdigest()[:16]
    cache.mkdir(parents=True, exist_ok=True)
    rows = kept_rows(curated, config.splits)
    chosen = {row.sample_key: choose_captions(config, row) for row in rows}
    dropped: Counter[str] = Counter()
    with_captions = [row for row in rows if chosen[row.sample_key]]
    dropped["no_caption"] = (len(rows) - len(with_captions)) * len(config.resolutions_px)
    texts = list(dict.fromkeys(caption.text for row in with_captions for caption in chosen[row.sample_key]))
    embeds = encode_captions(texts, encoders.text_encoder, cache, getattr(torch, config.dtype), progress)
    written = 0
    with LatentsWriter(output, contract, encoders.text_encoder.encode([""])[0]) as writer:
        for resolution in config.resolutions_px:
            buckets = aspect_buckets(resolution, contract.stride, config.max_aspect)
            for bucket, members in by_bucket(with_captions, buckets).items():
                for row, latents in encode_bucket(config, curated, members, bucket, encoders.vae, cache, dropped):
                    captions = [EncodedCaption(caption.form, embeds[caption.text]) for caption in chosen[row.sample_key]]
                    writer.add(row.sample_key, latents, captions, category=row.category, sampling_weight=row.sampling_weight)
                    written += 1
                progress("images", written, len(with_captions) * len(config.resolutions_px))
    if not written:
        raise InputError(Problem("curated", "must hold at least one readable image with a caption", dict(dropped), "curate more data"))
    num_in = len(rows) * len(config.resolutions_px)
    counts = {"num_in": num_in, "num_kept": written, "num_dropped": num_in - written, "num_unique_captions": len(texts)}
    return counts | {f"num_dropped_{reason.replace(' ', '_')}": count for reason, count in sorted(dropped.items()) if count}


def choose_captions(config: EncodingConfig, row: ManifestRow) -> list[Caption]:
    """The captions of a row that are encoded: wanted languages, not empty, at most max_captions drawn by a hash of the sample key."""
    wanted = [
        caption for caption in row.captions if caption.text.strip() and (not config.languages or caption.language in config.languages)
    ]
    if not config.max_captions or len(wanted) <= config.max_captions:
        return wanted
    order = sorted(wanted, key=lambda caption: hashlib.sha256(f"{row.sample_key}/{caption.form}/{caption.text}".encode()).digest())
    return order[: config.max_captions]


def by_bucket(rows: Sequence[ManifestRow], buckets: Sequence[Bucket]) -> dict[Bucket, list[ManifestRow]]:
    """Rows by the bucket nearest to their aspect; a row whose size was never read counts as square."""
    members: dict[Bucket, list[ManifestRow]] = defaultdict(list)
    for row in rows:
        members[nearest_bucket(row.height or 1, row.width or 1, buckets)].append(row)
    return dict(sorted(members.items()))


def encode_captions(texts: Sequence[str], encoder: TextEncoder, cache: Path, dtype: torch.dtype, progress: Progress) -> dict[str, Tensor]:
    """Prompt embeddings [T, D] of every text, in the stored precision; finished chunks are read back."""
    found: dict[str, Tensor] = {}
    for start in range(0, len(texts), CAPTIONS_PER_CHUNK):
        chunk = texts[start : start + CAPTIONS_PER_CHUNK]
        path = cache / f"captions-{chunk_name(chunk)}.safetensors"
        if not path.exists():
            states = encoder.encode(chunk)
            lengths = torch.tensor([state.shape[0] for state in states])
            commit(path, {"states": torch.cat(states).to(dtype), "lengths": lengths})
        stored = load_file(path)
        found.update(zip(chunk, torch.split(stored["states"], stored["lengths"].tolist()), strict=True))
        progress("captions", min(start + CAPTIONS_PER_CHUNK, len(texts)), len(texts))
    return found


def encode_bucket(
    config: EncodingConfig, curated: Path, rows: Sequence[ManifestRow], bucket: Bucket, vae: Autoencoder, cache: Path, dropped: Counter[str]
) -> Iterator[tuple[ManifestRow, Tensor]]:
    """Yields (row, latents [C, h, w]) of one bucket; finished chunks are read back. Unreadable samples are counted in `dropped`."""
    for start in range(0, len(rows), IMAGES_PER_CHUNK):
        chunk = rows[start : start + IMAGES_PER_CHUNK]
        name = chunk_name(f"{row.sample_key} {row.sha256}" for row in chunk)
        path = cache / f"latents-{bucket.height}x{bucket.width}-{name}.safetensors"
        if not path.exists():
            commit(path, encode_chunk(config, curated, chunk, bucket, vae))
        stored = load_file(path)
        readable = stored["readable"].tolist()
        dropped["unreadable"] += len(chunk) - len(readable)
        yield from ((chunk[index], latents) for index, latents in zip(readable, stored["latents"], strict=True))


def encode_chunk(config: EncodingConfig, curated: Path, rows: Sequence[ManifestRow], bucket: Bucket, vae: Autoencoder) -> dict[str, Tensor]:
    """Latents [n, C, h, w] of the readable rows and their positions in `rows`."""
    position = {row.sample_key: index for index, row in enumerate(rows)}
    step = stride(vae)
    readable: list[int] = []
    latents = [torch.zeros(0, packed_channels(vae), bucket.height // step, bucket.width // step)]
    pending: list[Tensor] = []

    def flush() -> None:
        if pending:
            latents.append(encode(vae, to_input(torch.stack(pending))))
            pending.clear()

    for row, image in read_pixels(curated, rows, bucket, Counter()):
        readable.append(position[row.sample_key])
        pending.append(torch.from_numpy(image.transpose(2, 0, 1).copy()))
        if len(pending) == config.batch_size:
            flush()
    flush()
    return {"latents": torch.cat(latents), "readable": torch.tensor(readable, dtype=torch.int64)}


def chunk_name(parts: Iterable[str]) -> str:
    """A name that changes with the content of a chunk."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(part.encode() + b"\0")
    return hasher.hexdigest()[:20]


def commit(path: Path, tensors: dict[str, Tensor]) -> None:
    """Writes tensors beside the final name, then renames: a chunk is whole or absent."""
    part = path.with_suffix(".partial")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part)
    part.replace(path)
