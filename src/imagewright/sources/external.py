"""What the user brings: a folder of images, WebDataset tars, or a Parquet list of URLs or bytes -> raw samples, within limits.

Nothing here stops for a bad entry: it is passed over and counted under its reason.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from imagewright.config.data import ExternalSource
from imagewright.data.images import BadImage
from imagewright.data.manifest import Caption
from imagewright.data.shards import MAX_SAMPLE_BYTES
from imagewright.errors import InputError, Problem
from imagewright.sources.download import Downloader
from imagewright.sources.samples import RawSample
from imagewright.sources.svg import render_svg

EXTENSIONS = ("png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "ppm", "svg")
MAX_TEXT_BYTES = 1 << 20
MAX_MEMBERS = 10_000_000
SVG_WIDTH_PX = 512
CHINESE = re.compile(r"[一-鿿]")
TRANSLATION = re.compile(r"^[a-z]{2,3}(_[A-Z]{2})?(@\w+)?\.utf8=.*\n?", re.MULTILINE)
"""The other 76 languages of a Tux Paint stamp's caption file, whose first line is English."""


def external_samples(section: ExternalSource, skipped: Counter[str]) -> Iterator[RawSample]:
    """Samples of one external source; `skipped` counts what is passed over, by reason. Raises InputError when the path is missing."""
    path = Path(section.path)
    if not path.exists():
        raise InputError(Problem("data.external.path", "does not exist", section.path, "give a folder, a tar, or a Parquet file"))
    readers = {"folder": folder_entries, "webdataset": tar_entries, "parquet": parquet_entries}
    seen: set[str] = set()
    for name, data, text in readers[section.kind](path, section, skipped):
        extension = name.rsplit(".", maxsplit=1)[-1].lower()
        key = f"{section.name}-{hashlib.sha256(name.encode()).hexdigest()[:24]}"
        if key in seen:
            skipped["repeated_key"] += 1
            continue
        seen.add(key)
        image = data
        if extension == "svg":
            try:
                image, extension = render_svg(data, SVG_WIDTH_PX), "png"
            except BadImage as error:
                skipped[error.reason] += 1
                continue
        captions = (Caption("original", "zh" if CHINESE.search(text) else "en", text),) if text.strip() else ()
        yield RawSample(
            sample_key=key,
            image=image,
            extension=extension,
            source=section.name,
            licence=section.licence,
            captions=captions,
            style=section.style,
            category=f"{section.name}/{Path(name).parent.as_posix()}".rstrip("/."),
        )


Entry = tuple[str, bytes, str]
"""Name inside the source (its permanent identity), image bytes, caption."""


def folder_entries(root: Path, section: ExternalSource, skipped: Counter[str]) -> Iterator[Entry]:
    """Images below a folder with the caption from `<stem>.txt` or `<stem>.json`; links that leave the folder are passed over."""
    inside = root.resolve()
    for path in sorted(root.rglob("*")):
        if path.suffix.lower().removeprefix(".") not in EXTENSIONS or not path.is_file():
            continue
        if not path.resolve().is_relative_to(inside):
            skipped["link_outside"] += 1
        elif path.stat().st_size > MAX_SAMPLE_BYTES:
            skipped["too_many_bytes"] += 1
        else:
            yield path.relative_to(root).as_posix(), path.read_bytes(), folder_caption(path)


def folder_caption(path: Path) -> str:
    """Text beside an image; text that is not UTF-8 is read with marks for what is lost."""
    for suffix in (".txt", ".json"):
        beside = path.with_suffix(suffix)
        if beside.is_file():
            with beside.open("rb") as file:
                return caption_text(file.read(MAX_TEXT_BYTES), suffix)
    return ""


def caption_text(data: bytes, suffix: str) -> str:
    """Plain text without its translations, or the caption, text or prompt of a JSON object."""
    text = data.decode("utf-8", errors="replace")
    if suffix != ".json":
        return TRANSLATION.sub("", text)
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    found = next((tree[name] for name in ("caption", "text", "prompt") if name in tree), "") if isinstance(tree, dict) else ""
    return found if isinstance(found, str) else ""


def tar_entries(path: Path, section: ExternalSource, skipped: Counter[str]) -> Iterator[Entry]:
    """Samples of one tar or a folder of tars, in WebDataset's convention; a tar that was cut gives what precedes the cut."""
    for shard in [path] if path.is_file() else sorted(path.glob("*.tar")):
        try:
            with tarfile.open(shard, "r:") as tar:
                yield from tar_samples(tar, shard.name, skipped)
        except (tarfile.TarError, OSError, EOFError):
            skipped["cut_tar"] += 1


def tar_samples(tar: tarfile.TarFile, shard: str, skipped: Counter[str]) -> Iterator[Entry]:
    """Groups members of one stem; nothing is ever extracted to disk."""
    stem, image, text = "", ("", b""), ""
    for count, member in enumerate(tar):
        if count > MAX_MEMBERS:
            skipped["too_many_members"] += 1
            break
        name, _, suffix = member.name.rpartition(".")
        if name != stem:
            if image[1]:
                yield f"{shard}/{image[0]}", image[1], text
            stem, image, text = name, ("", b""), ""
        suffix = suffix.lower()
        if not member.isfile() or member.size > (MAX_SAMPLE_BYTES if suffix in EXTENSIONS else MAX_TEXT_BYTES):
            skipped["odd_member"] += member.isfile()
            continue
        file = tar.extractfile(member) if suffix in (*EXTENSIONS, "txt", "json") else None
        data = file.read() if file else b""
        if suffix in EXTENSIONS:
            image = (member.name, data)
        elif data:
            text = caption_text(data, f".{suffix}") or text
    if image[1]:
        yield f"{shard}/{image[0]}", image[1], text


def parquet_entries(path: Path, section: ExternalSource, skipped: Counter[str]) -> Iterator[Entry]:
    """Rows of a Parquet table with a bytes column or a URL column and a caption column."""
    downloader = Downloader(section.max_bytes, section.max_seconds)
    table = pq.ParquetFile(path)
    wanted = [name for name in (section.image_column, section.url_column, section.caption_column) if name in table.schema_arrow.names]
    for batch in table.iter_batches(batch_size=256, columns=wanted):
        for row in batch.to_pylist():
            text = str(row.get(section.caption_column) or "")[:MAX_TEXT_BYTES]
            image, url = row.get(section.image_column), row.get(section.url_column)
            if isinstance(image, dict):
                image = image.get("bytes")
            if isinstance(image, bytes) and image:
                yield f"{hashlib.sha256(image).hexdigest()}.bin", image, text
            elif isinstance(url, str) and url:
                try:
                    yield f"{url}#.bin", downloader.get(url), text
                except BadImage as error:
                    skipped[error.reason] += 1
            else:
                skipped["no_image"] += 1
