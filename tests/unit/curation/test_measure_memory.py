"""A worker of the measure stage stays under the memory it declares, on the worst files that the limits admit."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

from imagewright.curation.measure import MeasureStage
from imagewright.data.images import DEFAULT_LIMITS
from imagewright.sources.faults import bomb_png

WORKER = """
import sys
from pathlib import Path
from imagewright.curation.measure import measure_all
from imagewright.data.images import DecodeLimits
# A busy machine may take its time: this is about memory.
found = measure_all((Path(name).read_bytes() for name in sys.argv[1:]), DecodeLimits(max_seconds=600))
# Not getrusage: its peak is inherited from the process that started this one.
peak = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(*(measured["bad_image"] or measured["measured_width"] for measured in found), peak)
"""
GREY_16_BIT, RGBA = (16, 0, 2), (8, 6, 4)
"""Bit depth, colour type and bytes a pixel, as PNG writes them."""


def blank_png(side: int, kind: tuple[int, int, int]) -> bytes:
    """A real PNG of zeros, made row by row."""
    depth, colour, pixel_bytes = kind
    packer, row = zlib.compressobj(1), bytes(1 + side * pixel_bytes)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0), b"IDAT" + data, b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)


def test_the_largest_admitted_pictures_and_a_bomb_fit_into_a_gibibyte(tmp_path: Path) -> None:
    side = int(DEFAULT_LIMITS.max_pixels**0.5)
    for name, data in (("rgba", blank_png(side, RGBA)), ("grey", blank_png(side, GREY_16_BIT)), ("bomb", bomb_png(30_000))):
        (tmp_path / name).write_bytes(data)
    command = [sys.executable, "-c", WORKER, *(str(tmp_path / name) for name in ("rgba", "grey", "bomb"))]
    rgba, grey, bomb, peak_kib = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout.split()
    assert (rgba, grey, bomb) == (str(side), str(side), "too_many_pixels")
    assert int(peak_kib) < MeasureStage.resources.memory_mib * 1024
