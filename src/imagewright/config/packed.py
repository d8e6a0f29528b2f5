"""The configuration as a pipeline parameter, packed: a fan-out's workflow holds it several times for each slice, and has 1 MiB of room."""

from __future__ import annotations

import base64
import gzip
import zlib

from imagewright.errors import ConfigError, Problem

MARK = "gzip:"
MAX_BYTES = 4 << 20


def pack_config(text: str) -> str:
    """Text without a quote that every layer of JSON would escape again, less than half as long; equal text gives equal results."""
    return MARK + base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def unpack_config(text: str) -> str:
    """The text that was packed; text that was not is handed on. Raises ConfigError for damaged text and over `MAX_BYTES` bytes."""
    if not text.startswith(MARK):
        return text
    reader = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        content = reader.decompress(base64.b64decode(text.removeprefix(MARK), validate=True), MAX_BYTES + 1)
        unpacked = content.decode()
    except (ValueError, zlib.error) as error:
        raise ConfigError(Problem("config", f"is packed and cannot be unpacked: {error}", None, "submit the run again")) from error
    if not reader.eof and len(content) <= MAX_BYTES:
        raise ConfigError(Problem("config", "is packed and cannot be unpacked: it ends too early", None, "submit the run again"))
    if len(content) > MAX_BYTES:
        raise ConfigError(Problem("config", f"must be at most {MAX_BYTES} bytes", None, "submit the run again"))
    return unpacked
