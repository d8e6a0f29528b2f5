"""Known faults mixed into a pool, so that filters are measured with recall and precision instead of assumed.

What was done to which sample goes to a side table, `faults.parquet`, that no filter reads. Keys of faulty samples do not tell their fault.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from imagewright.config.data import CorruptConfig
from imagewright.sources.posters import font_of
from imagewright.sources.samples import RawSample, stream

FAULTS_NAME = "faults.parquet"
WATERMARKS = ("SAMPLE", "PREVIEW", "STOCK", "DEMO COPY")


@dataclass(frozen=True)
class Fault:
    """One line of the side table."""

    sample_key: str
    fault: str
    """exact_duplicate, near_duplicate, blur, tiny, broken, bomb, watermark, compressed or wrong_caption."""
    origin: str
    """Key of the sample it was made from; for duplicates that sample is in the pool too."""
    detail: str = ""


def corrupt(samples: Iterable[RawSample], section: CorruptConfig, seed: int, faults: list[Fault]) -> Iterator[RawSample]:
    """Passes samples on, some of them with a fault. Duplicates are added; every other fault takes the place of the sample.

    Each fault made is appended to `faults`. Sample i's fate depends on (section, seed, i) and its own content only, except that a wrong
    caption is that of an earlier training sample of another concept.
    """
    previous: RawSample | None = None
    names = [name for name, fraction in section if fraction > 0]
    edges = np.cumsum([getattr(section, name) for name in names])
    for index, sample in enumerate(samples):
        rng = stream(seed, "faults", index)
        place = int(np.searchsorted(edges, rng.random(), side="right"))
        if place == len(names):
            yield sample
        else:
            name = names[place]
            if name in ("exact_duplicate", "near_duplicate"):
                yield sample
            changed, detail = apply_fault(name, sample, previous, rng)
            if changed is None:
                if name not in ("exact_duplicate", "near_duplicate"):
                    yield sample
            else:
                key = "pool-" + hashlib.sha256(f"{seed} {index} {name}".encode()).hexdigest()[:20]
                faults.append(Fault(key, name, sample.sample_key, detail))
                yield replace(changed, sample_key=key)
        if sample.split == "train" and (previous is None or previous.concept != sample.concept):
            previous = sample


def apply_fault(name: str, sample: RawSample, other: RawSample | None, rng: np.random.Generator) -> tuple[RawSample | None, str]:
    """Returns (the sample with the fault, what was done); (None, "") when this sample cannot have it."""
    if name == "exact_duplicate":
        return sample, "same bytes"
    if name == "wrong_caption":
        if other is None or other.concept == sample.concept or sample.split != "train":
            return None, ""
        return replace(sample, captions=other.captions), f"caption of {other.sample_key}"
    if name == "broken":
        return replace(sample, image=broken_bytes(sample.image, rng)), "cut or overwritten"
    if name == "bomb":
        return replace(sample, image=bomb_png(30_000), extension="png"), "30000x30000"
    with Image.open(io.BytesIO(sample.image)) as image:
        picture = image.convert("RGB")
    changed, options, detail = alter(name, picture, rng)
    buffer = io.BytesIO()
    changed.save(buffer, str(options["format"]), **{key: value for key, value in options.items() if key != "format"})
    extension = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}[str(options["format"])]
    return replace(sample, image=buffer.getvalue(), extension=extension, width=changed.width, height=changed.height), detail


def alter(name: str, picture: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, dict[str, object], str]:
    """Draws a visible fault; returns (picture, how to save it, what was done)."""
    side = max(picture.size)
    if name == "blur":
        radius = side * float(rng.uniform(0.03, 0.06))
        return picture.filter(ImageFilter.GaussianBlur(radius)), {"format": "PNG"}, f"gaussian radius {radius:.1f} px"
    if name == "tiny":
        scale = float(rng.uniform(6, 14)) / side
        return (
            picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))),
            {"format": "PNG"},
            "under 15 px",
        )
    if name == "watermark":
        return watermarked(picture, rng), {"format": "PNG"}, "repeated text"
    if name == "compressed":
        return picture, {"format": "JPEG", "quality": 3}, "jpeg quality 3"
    assert name == "near_duplicate", name
    return nearly_the_same(picture, rng)


def nearly_the_same(picture: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, dict[str, object], str]:
    """Encodes, resizes or relights a picture so slightly that a person sees the same one."""
    kind = ("jpeg", "webp", "smaller", "brighter", "darker")[int(rng.integers(5))]
    if kind in ("jpeg", "webp"):
        quality = int(rng.integers(70, 92))
        return picture, {"format": kind.upper(), "quality": quality}, f"{kind} quality {quality}"
    if kind == "smaller":
        scale = float(rng.uniform(0.75, 0.95))
        return (
            picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS),
            {"format": "PNG"},
            "smaller",
        )
    factor = float(rng.uniform(1.03, 1.06) if kind == "brighter" else rng.uniform(0.92, 0.97))
    return ImageEnhance.Brightness(picture).enhance(factor), {"format": "PNG"}, kind


def watermarked(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Writes a translucent word across the picture three times."""
    overlay = Image.new("RGBA", picture.size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(overlay)
    word = WATERMARKS[int(rng.integers(len(WATERMARKS)))]
    font = font_of("en", True, max(8, picture.width // 6))
    for row in range(3):
        draw.text((picture.width / 2, picture.height * (row + 0.5) / 3), word, font=font, fill=(128, 128, 128, 200), anchor="mm")
    return Image.alpha_composite(picture.convert("RGBA"), overlay).convert("RGB")


def broken_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Zero bytes, the first half, text, or noise after the header."""
    kind = int(rng.integers(4))
    if kind == 0:
        return b""
    if kind == 1:
        return data[: len(data) // 2]
    if kind == 2:
        return b"<html><body>404 Not Found</body></html>"
    return data[:60] + rng.bytes(max(1, len(data) - 60))


def bomb_png(side_px: int) -> bytes:
    """A PNG of a few hundred bytes whose header claims side_px**2 pixels: 2.7 GB of memory at 30,000 for a reader that believes it."""
    rows = zlib.compressobj(9)
    row = b"\0" * (1 + side_px * 3)
    data = b"".join(rows.compress(row) for _ in range(16)) + rows.flush()
    header = struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0)
    chunks = [b"IHDR" + header, b"IDAT" + data, b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)


def write_faults(path: Path, faults: list[Fault]) -> None:
    """Writes the side table."""
    columns = {name: [getattr(fault, name) for fault in faults] for name in ("sample_key", "fault", "origin", "detail")}
    pq.write_table(pa.table(columns, schema=pa.schema([(name, pa.string()) for name in columns])), path)
