"""Decoding: every kind of odd or broken file gives pixels or a reason, never a crash and never a blown memory."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from imagewright.data import images
from imagewright.data.images import BadImage, DecodeLimits, decode_rgb, read_header


def encode(image: Image.Image, format_name: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG header without the pixels it promises."""
    body = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + body
    data = b"IDAT" + zlib.compress(b"\0" * 1000)
    chunks = b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (chunk, data, b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + chunks


RED = Image.new("RGB", (20, 10), (255, 0, 0))
GRADIENT = Image.fromarray(np.linspace(0, 65535, 200, dtype=np.uint16).reshape(10, 20))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encode(RED), (255, 0, 0)),
        (encode(RED, "JPEG", quality=95), (254, 0, 0)),
        (encode(RED.convert("CMYK"), "JPEG", quality=95), (254, 0, 0)),
        (encode(RED.convert("P")), (255, 0, 0)),
        (encode(RED, "WEBP", lossless=True), (255, 0, 0)),
        (encode(Image.new("RGBA", (20, 10), (0, 0, 0, 0))), (255, 255, 255)),
        (encode(Image.new("L", (20, 10), 7)), (7, 7, 7)),
        (encode(Image.new("1", (20, 10), 1)), (255, 255, 255)),
        (encode(Image.new("I;16", (20, 10), 65535)), (255, 255, 255)),
    ],
    ids=["rgb", "jpeg", "cmyk", "palette", "webp", "transparent", "grey", "1-bit", "16-bit"],
)
def test_every_colour_mode_becomes_rgb(data: bytes, expected: tuple[int, int, int]) -> None:
    pixels = decode_rgb(data)
    assert pixels.shape == (10, 20, 3)
    assert np.abs(pixels[5, 10].astype(int) - expected).max() <= 4


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "I;16", "CMYK", "1"])
def test_a_large_picture_is_converted_as_a_small_one(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (37, 23, 4), dtype=np.uint8)
    image = GRADIENT if mode == "I;16" else Image.fromarray(noise).convert(mode)
    if mode == "P":
        image.info["transparency"] = 7
    data = encode(image, "TIFF" if mode == "CMYK" else "PNG")
    whole = decode_rgb(data)
    monkeypatch.setattr(images, "STRIP_PIXELS", 100)
    assert np.array_equal(decode_rgb(data), whole)


def test_sixteen_bit_grey_keeps_its_range() -> None:
    pixels = decode_rgb(encode(GRADIENT))
    assert (pixels.min(), pixels.max()) == (0, 255)


ANIMATION = encode(RED, "GIF", save_all=True, append_images=[Image.new("RGB", (20, 10), (0, 255, 0))])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"not an image at all", "unknown_format"),
        (b"\x89PNG\r\n\x1a\n", "unknown_format"),
        (encode(RED, "JPEG")[:200], "broken"),
        (encode(Image.effect_noise((64, 64), 50))[:1500], "broken"),
        (ANIMATION, "animated"),
        (png_that_claims(30_000, 30_000), "too_many_pixels"),
        (png_that_claims(100_000, 100_000), "too_many_pixels"),
        (png_that_claims(30_000, 10), "too_many_pixels"),
        (png_that_claims(500, 500), "broken"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unknown_format"),
    ],
    ids=[
        "zero bytes",
        "text",
        "signature only",
        "cut jpeg",
        "cut png",
        "animated",
        "bomb",
        "huge bomb",
        "30,000 px side",
        "missing pixels",
        "svg",
    ],
)
def test_a_bad_file_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage) as caught:
        decode_rgb(data)
    assert caught.value.reason == reason


def test_a_png_with_a_flipped_bit_is_broken_though_it_would_decode() -> None:
    data = bytearray(encode(Image.fromarray(np.tile(np.arange(64, dtype=np.uint8), (64, 1)))))
    data[len(data) // 2] ^= 1
    with pytest.raises(BadImage, match="broken"):
        decode_rgb(bytes(data))


def test_limits_hold_at_the_edge() -> None:
    data = encode(RED)
    assert decode_rgb(data, DecodeLimits(max_pixels=200, max_side_px=20, max_bytes=len(data))).shape == (10, 20, 3)
    for limits in (DecodeLimits(max_pixels=199), DecodeLimits(max_side_px=19)):
        with pytest.raises(BadImage, match="too_many_pixels"):
            read_header(data, limits)
    with pytest.raises(BadImage, match="too_many_bytes"):
        read_header(data, DecodeLimits(max_bytes=len(data) - 1))


def test_a_decode_that_takes_too_long_is_stopped() -> None:
    data = encode(Image.effect_noise((2000, 2000), 50))
    with pytest.raises(BadImage, match="too_slow"):
        decode_rgb(data, DecodeLimits(max_seconds=0.001))
