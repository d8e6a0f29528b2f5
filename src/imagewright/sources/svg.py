"""SVG text -> PNG bytes through resvg, refusing everything that reaches outside the file or grows without bound."""

from __future__ import annotations

import re

from imagewright.data.images import BadImage

MAX_SVG_BYTES = 2 << 20
MAX_ELEMENTS = 50_000
MAX_USE_ELEMENTS = 2_000
ENTITY = re.compile(rb"<!(DOCTYPE[^>]*\[|ENTITY)", re.IGNORECASE)
REFERENCE = re.compile(rb"""(?:href|src)\s*=\s*(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)
STYLE_REFERENCE = re.compile(rb"""url\(\s*['"]?([^'")\s]*)|@import""", re.IGNORECASE)


def render_svg(data: bytes, width: int, height: int | None = None, background: str = "#ffffff") -> bytes:
    """Renders to an opaque PNG of the given size in pixels (height None keeps the shape).

    Raises BadImage: too_many_bytes, svg_entity, svg_external_reference, svg_too_complex, broken.
    """
    import resvg_py

    check_svg(data)
    try:
        return bytes(
            resvg_py.svg_to_bytes(svg_string=data.decode(), width=width, height=height, background=background, skip_system_fonts=True)
        )
    except (ValueError, UnicodeDecodeError) as error:
        raise BadImage("broken", str(error)[:200]) from error


def check_svg(data: bytes) -> None:
    """Refuses an SVG that declares entities, points outside itself, or repeats itself too often. Raises BadImage."""
    if len(data) > MAX_SVG_BYTES:
        raise BadImage("too_many_bytes", f"{len(data)} > {MAX_SVG_BYTES}")
    if ENTITY.search(data):
        raise BadImage("svg_entity")
    targets = [first or second for first, second in REFERENCE.findall(data)] + STYLE_REFERENCE.findall(data)
    if any(not target.strip().startswith((b"#", b"data:image/")) for target in targets):
        raise BadImage("svg_external_reference")
    if data.count(b"<") > MAX_ELEMENTS or data.count(b"<use") > MAX_USE_ELEMENTS:
        raise BadImage("svg_too_complex")
