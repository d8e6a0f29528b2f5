"""A pool with every kind of bad file and caption: nothing stops, each is counted under its reason, the good ones come through."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagewright.config.curation import CurationConfig, FilterConfig, TaxonomyConfig
from imagewright.config.data import DataConfig, ExternalSource, ScenesConfig
from imagewright.curation.curate import Curated, curate
from imagewright.data.manifest import ManifestRow, read_manifest, table_to_rows
from imagewright.sources.faults import bomb_png
from imagewright.sources.ingest import ingest

RNG = np.random.default_rng(11)
SVG = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 9 9'>{}<circle cx='4' cy='4' r='3'/></svg>"


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def checks(cell: int = 8) -> Image.Image:
    """Sharp, and different every time, so that nothing is a duplicate."""
    return Image.fromarray(np.kron(RNG.integers(0, 2, (8, 8, 3)), np.ones((cell, cell, 1))).astype(np.uint8) * 255)


def deep_grey() -> Image.Image:
    return Image.fromarray(np.asarray(checks().convert("L")).astype(np.uint16) * 257)


def cut(data: bytes) -> bytes:
    """The first half."""
    return data[: len(data) // 2]


def overwritten(data: bytes) -> bytes:
    """The middle third replaced."""
    third = len(data) // 3
    return data[:third] + bytes(third) + data[2 * third :]


FILES = {
    "good.png": encode(checks()),
    "cmyk.jpg": encode(checks().convert("CMYK"), "JPEG", quality=95),
    "palette.png": encode(checks().convert("P")),
    "sixteen_bit.png": encode(deep_grey()),
    "drawn.svg": SVG.format("").encode(),
    "truncated.png": cut(encode(checks(16))),
    "truncated.jpg": cut(encode(checks(16), "JPEG")),
    "broken.png": overwritten(encode(checks(16))),
    "zero.png": b"",
    "animated.gif": encode(checks(), "GIF", save_all=True, append_images=[checks()]),
    "long_side.png": encode(Image.new("1", (30_000, 9))),
    "bomb.png": bomb_png(30_000),
    "page.png": b"<html>404</html>",
    "reaches_out.svg": SVG.format("<image href='http://example.com/a.png'/>").encode(),
    "reads_file.svg": SVG.format("<image href='file:///etc/passwd'/>").encode(),
    "entity.svg": b"<!DOCTYPE svg [<!ENTITY a 'b'>]>" + SVG.format("").encode(),
}
REASONS = {
    "truncated.png": "broken",
    "truncated.jpg": "broken",
    "broken.png": "broken",
    "zero.png": "empty",
    "animated.gif": "animated",
    "long_side.png": "too_many_pixels",
    "bomb.png": "too_many_pixels",
    "page.png": "unknown_format",
    "cmyk.jpg": "no_caption",
    "drawn.svg": "no_caption",
}
CAPTIONS = {
    "good.png": "a\x00 red \u202estar\n",
    "cmyk.jpg": "",
    "palette.png": "word " * 100_000,
    "sixteen_bit.png": "\u1200\u1208 \u16a0",
    "drawn.svg": " \x07 ",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    images, raw = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("raw")
    for name, data in FILES.items():
        (images / name).write_bytes(data)
    for name, text in CAPTIONS.items():
        (images / name).with_suffix(".txt").write_bytes(text.encode())
    return images, raw


@pytest.fixture(scope="module")
def counts(folders: tuple[Path, Path]) -> dict[str, int]:
    images, raw = folders
    source = ExternalSource(name="mine", kind="folder", path=str(images), licence="CC0-1.0")
    return ingest(DataConfig(scenes=ScenesConfig(num_samples=12), external=(source,)), raw, seed=0)


@pytest.fixture(scope="module")
def curated(
    folders: tuple[Path, Path], counts: dict[str, int], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Curated, list[ManifestRow]]:
    output = tmp_path_factory.mktemp("out")
    section = CurationConfig(taxonomy=TaxonomyConfig(num_categories=2, num_groups=1), filters=FilterConfig(max_blur=1.0))
    result = curate(folders[1], output, section, tmp_path_factory.mktemp("work"), seed=0)
    return result, [row for row in table_to_rows(read_manifest(output)) if row.source == "mine"]


def test_svg_files_that_reach_outside_are_counted_and_never_drawn(counts: dict[str, int]) -> None:
    assert counts["num_skipped_svg_external_reference"] == 2
    assert counts["num_skipped_svg_entity"] == 1
    assert counts["num_source_mine"] == len(FILES) - 3


def test_every_bad_image_has_its_reason_and_every_odd_one_is_read(curated: tuple[Curated, list[ManifestRow]]) -> None:
    result, rows = curated
    reasons = sorted(row.drop_reason for row in rows)
    assert reasons == sorted([*REASONS.values(), *[""] * (len(rows) - len(REASONS))])
    for reason in set(REASONS.values()):
        assert result.counts[f"num_dropped_{reason}"] == list(REASONS.values()).count(reason)
    assert result.counts["num_kept"] + result.counts["num_dropped"] == result.counts["num_in"] == 12 + len(rows)


def test_captions_are_clean_bounded_and_may_be_missing(curated: tuple[Curated, list[ManifestRow]]) -> None:
    kept = [row for row in curated[1] if row.drop_reason == ""]
    texts = sorted(caption.text for row in kept for caption in row.captions if caption.form == "original")
    huge = next(text for text in texts if text.startswith("word"))
    assert sorted({*texts} - {huge}) == ["a red star", "\u1200\u1208 \u16a0"]
    assert len(huge) <= CurationConfig().captioner.max_chars
    assert len(kept) == len(texts) == 3
