"""SVG: only what lies inside the file is drawn."""

from __future__ import annotations

import pytest

from imagewright.data.images import BadImage, decode_rgb
from imagewright.sources.svg import MAX_SVG_BYTES, render_svg

HEAD = b'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 10 10">'


def test_an_svg_is_drawn_at_the_size_asked_for_on_white() -> None:
    pixels = decode_rgb(render_svg(HEAD + b'<rect width="5" height="10" fill="#f00"/></svg>', 32, 32))
    assert pixels.shape == (32, 32, 3)
    assert pixels[16, 4].tolist() == [255, 0, 0]
    assert pixels[16, 28].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'<image href="file:///etc/passwd" width="9" height="9"/>', "svg_external_reference"),
        (b"<image xlink:href='http://10.0.0.1/x.png'/>", "svg_external_reference"),
        (b"<image xlink:href='other.png'/>", "svg_external_reference"),
        (b'<style>@import "http://example.org/a.css";</style>', "svg_external_reference"),
        (b"<rect fill='url(http://example.org/p.svg#a)'/>", "svg_external_reference"),
        (b"<use href='#a'/>" * 2001, "svg_too_complex"),
        (b"<rect", "broken"),
        (b" " * MAX_SVG_BYTES, "too_many_bytes"),
    ],
)
def test_an_svg_that_reaches_outside_or_grows_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(BadImage) as caught:
        render_svg(HEAD + body + b"</svg>", 16, 16)
    assert caught.value.reason == reason


def test_entities_are_refused() -> None:
    with pytest.raises(BadImage, match="svg_entity"):
        render_svg(b'<!DOCTYPE svg [<!ENTITY a "b">]>' + HEAD + b"</svg>", 16, 16)


def test_references_inside_the_file_are_drawn() -> None:
    body = (
        b'<defs><linearGradient id="g"><stop stop-color="#00f"/></linearGradient></defs><rect width="10" height="10" fill="url(#g)"/></svg>'
    )
    assert decode_rgb(render_svg(HEAD + body, 16, 16))[8, 8].tolist() == [0, 0, 255]
