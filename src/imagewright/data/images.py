"""Image bytes -> pixels, within limits on bytes, pixels and seconds; every stage that looks at a sample decodes it here.

The header is read first, so a decompression bomb is refused before a pixel is decoded.
"""

from __future__ import annotations

import io
import signal
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import numpy as np
from PIL import Image, UnidentifiedImageError

PNG_SIGNATURE_BYTES = 8
STRIP_PIXELS = 4 << 20
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")


@dataclass(frozen=True)
class DecodeLimits:
    """What a decoder may spend on one image."""

    max_bytes: int = 64 << 20
    max_pixels: int = 64_000_000
    max_side_px: int = 16_384
    max_seconds: float = 10.0


DEFAULT_LIMITS = DecodeLimits()


class BadImage(ValueError):
    """An image that is kept out; `reason` is its drop_reason."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


@dataclass(frozen=True)
class ImageHeader:
    """What the first bytes say; no pixel was decoded."""

    format: str
    width: int
    height: int
    mode: str
    num_frames: int
    luminance_steps: tuple[int, ...] = ()
    """The 64 luminance quantisation steps of a JPEG; empty for other formats."""


def read_header(data: bytes, limits: DecodeLimits = DEFAULT_LIMITS) -> ImageHeader:
    """Reads an image's header. Raises BadImage: empty, too_many_bytes, unknown_format, broken, too_many_pixels, animated."""
    check_size(data, limits)
    with open_image(data) as image:
        return header_of(image, limits)


def decode_rgb(data: bytes, limits: DecodeLimits = DEFAULT_LIMITS, *, max_side_px: int | None = None) -> np.ndarray:
    """Decodes to RGB [H, W, 3] uint8: transparency over white, palette, CMYK and 16-bit converted.

    max_side_px: a JPEG may be decoded smaller, but not below this side. Raises BadImage with the reasons of read_header, plus
    broken (cut or damaged data) and too_slow.
    """
    return decode_with_header(data, limits, max_side_px=max_side_px)[1]


def decode_with_header(data: bytes, limits: DecodeLimits, *, max_side_px: int | None = None) -> tuple[ImageHeader, np.ndarray]:
    """What `read_header` and `decode_rgb` return, from one opening of the file."""
    check_size(data, limits)
    with open_image(data) as image:
        header = header_of(image, limits)
        if max_side_px is not None:
            image.draft("RGB", (max_side_px, max_side_px))
        try:
            with deadline(limits.max_seconds):
                if header.format == "PNG":
                    check_png(data)
                return header, to_rgb(image)
        except BadImage:
            raise
        except TimeoutError as error:
            raise BadImage("too_slow", f"over {limits.max_seconds} s") from error
        except (OSError, SyntaxError, ValueError, EOFError, IndexError, MemoryError) as error:
            raise BadImage("broken", str(error)) from error


def check_png(data: bytes) -> None:
    """Refuses a PNG whose critical chunks do not match their CRC, which decoders pass over: damage inside may still decode to a picture.

    A file that ends early is left to the decoder. Raises BadImage: broken.
    """
    start = PNG_SIGNATURE_BYTES
    while start + 12 <= len(data):
        length, name = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8]
        end = start + 8 + length
        if end + 4 > len(data):
            return
        if name.isupper() and zlib.crc32(memoryview(data)[start + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise BadImage("broken", f"chunk {name!r} does not match its CRC")
        start = end + 4


def check_size(data: bytes, limits: DecodeLimits) -> None:
    """Refuses a file for its number of bytes alone. Raises BadImage: empty, too_many_bytes."""
    if not data:
        raise BadImage("empty")
    if len(data) > limits.max_bytes:
        raise BadImage("too_many_bytes", f"{len(data)} > {limits.max_bytes}")


def header_of(image: Image.Image, limits: DecodeLimits) -> ImageHeader:
    """Header of an opened image within limits. Raises BadImage: broken, too_many_pixels, animated."""
    width, height = image.size
    if width * height > limits.max_pixels or max(width, height) > limits.max_side_px:
        raise BadImage("too_many_pixels", f"{width}x{height}")
    if width < 1 or height < 1:
        raise BadImage("broken", "no pixels")
    try:
        num_frames = int(getattr(image, "n_frames", 1))
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise BadImage("broken", str(error)) from error
    if num_frames > 1:
        raise BadImage("animated", f"{num_frames} frames")
    tables = getattr(image, "quantization", None)
    return ImageHeader(str(image.format), width, height, image.mode, num_frames, tuple(tables[min(tables)]) if tables else ())


@contextmanager
def open_image(data: bytes) -> Iterator[Image.Image]:
    """Opens an image of a known format; header errors become BadImage."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError as error:
            raise BadImage("unknown_format") from error
        except Image.DecompressionBombError as error:
            raise BadImage("too_many_pixels", str(error)) from error
        except (OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError, MemoryError) as error:
            raise BadImage("broken", str(error)) from error
        with image:
            yield image


def to_rgb(image: Image.Image) -> np.ndarray:
    """Any mode -> RGB [H, W, 3] uint8; transparency is laid over white.

    Large pictures go strip by strip, so that memory is the decoder's and the result's, whatever a mode's conversion takes.
    """
    width, height = image.size
    rows = max(1, STRIP_PIXELS // width)
    if rows >= height:
        return strip_to_rgb(image)
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        pixels[top:bottom] = strip_to_rgb(image.crop((0, top, width, bottom)))
    return pixels


def strip_to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode == "RGB":
        return np.asarray(image)
    if image.mode in ("I", "F", "I;16", "I;16B", "I;16L", "I;16N"):
        values = np.asarray(image, dtype=np.float32)
        grey = np.clip(values / 257.0 if image.mode.startswith("I") else values, 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        canvas.alpha_composite(rgba)
        return np.asarray(canvas.convert("RGB"))
    return np.asarray(image.convert("RGB"))


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in the block after `seconds`. A timer needs the main thread: elsewhere only the size limits hold."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
