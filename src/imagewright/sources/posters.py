"""Typeset posters, signs and slides in English and Chinese with the exact text: ground truth for OCR and text rendering."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from imagewright.config.data import PostersConfig
from imagewright.data.manifest import Caption
from imagewright.sources.samples import RawSample, stream

SOURCE = "posters"
LICENCE = "CC0-1.0"
ENGLISH_TITLES = (
    "BIG SALE", "OPEN LATE", "FRESH BREAD", "LIVE MUSIC", "NO PARKING", "BOOK FAIR", "GRAND OPENING", "ART SHOW", "HOT COFFEE",
    "WET FLOOR", "CITY MARATHON", "SPRING SALE", "NIGHT MARKET", "FREE ENTRY", "EXIT ONLY", "LOST CAT", "NEW MENU", "QUIET ZONE",
)  # fmt: skip
ENGLISH_LINES = (
    "TODAY ONLY", "EVERY FRIDAY", "UP TO 50% OFF", "ALL WELCOME", "FROM 9 TO 5", "BACK IN 10 MIN", "TICKETS AT 7 PM", "SINCE 1988",
    "LEVEL 2", "CASH ONLY", "THIS WAY", "ROOM 204",
)  # fmt: skip
CHINESE_TITLES = (
    "今日特价", "欢迎光临", "新品上市", "春季大促", "音乐之夜", "禁止停车", "小心地滑", "图书市集", "安全出口", "夜市开放", "手工面包",
    "城市马拉松",
)  # fmt: skip
CHINESE_LINES = (
    "仅限今天", "每周五晚", "全场五折", "免费入场", "早九晚五", "二楼右转", "现金支付", "请勿喧哗", "请走这边", "买一送一",
)  # fmt: skip
# (background, ink, English name, Chinese name): contrast ratio of every pair is above 4.5:1.
PALETTES = (((190, 20, 30), (255, 255, 255), "red", "红色"), ((20, 60, 150), (255, 255, 255), "blue", "蓝色"),
            ((250, 210, 40), (25, 25, 25), "yellow", "黄色"), ((15, 100, 60), (255, 255, 255), "green", "绿色"),
            ((250, 250, 245), (30, 30, 40), "white", "白色"), ((25, 25, 30), (250, 215, 60), "black", "黑色"))  # fmt: skip
KINDS = {"poster": (3, 4), "sign": (3, 2), "slide": (16, 9)}
KINDS_ZH = {"poster": "海报", "sign": "标牌", "slide": "幻灯片"}


@dataclass(frozen=True)
class Layout:
    """What is typeset: lines top to bottom, the first the title."""

    kind: str
    lines: tuple[str, ...]
    language: str
    palette: int
    bold: bool


def poster_samples(section: PostersConfig, seed: int) -> Iterator[RawSample]:
    """`section.num_samples` typeset pictures; sample i depends on (section, seed, i) only."""
    for index in range(section.num_samples):
        rng = stream(seed, SOURCE, index)
        layout = compose_poster(rng, section.languages)
        image = draw_poster(layout, section.size_px)
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=1)
        yield RawSample(
            sample_key=f"poster-{seed}-{index:07d}",
            image=buffer.getvalue(),
            extension="png",
            source=SOURCE,
            licence=LICENCE,
            captions=poster_captions(layout),
            style=layout.kind,
            concept=" / ".join(layout.lines),
            category=f"typeset/{layout.kind}",
            split="validation" if rng.random() < section.validation_fraction else "train",
            visible_text="\n".join(layout.lines),
            width=image.width,
            height=image.height,
        )


def compose_poster(rng: np.random.Generator, languages: Sequence[str]) -> Layout:
    """Draws kind, language, words and palette."""
    language = languages[int(rng.integers(len(languages)))]
    titles, lines = (ENGLISH_TITLES, ENGLISH_LINES) if language == "en" else (CHINESE_TITLES, CHINESE_LINES)
    kind = tuple(KINDS)[int(rng.integers(len(KINDS)))]
    num_lines = {"poster": 1, "sign": int(rng.integers(2)), "slide": 2}[kind]
    chosen = [lines[i] for i in rng.permutation(len(lines))[:num_lines]]
    return Layout(
        kind, (titles[int(rng.integers(len(titles)))], *chosen), language, int(rng.integers(len(PALETTES))), bool(rng.integers(2))
    )


def draw_poster(layout: Layout, size_px: int) -> Image.Image:
    """Typesets a layout; size_px is the longer side. Every line fits inside the margins."""
    across, down = KINDS[layout.kind]
    width, height = (size_px, size_px * down // across) if across >= down else (size_px * across // down, size_px)
    background, ink, _, _ = PALETTES[layout.palette]
    image = Image.new("RGB", (width, height), background)
    draw = ImageDraw.Draw(image)
    edge = max(1, size_px // 64)
    if layout.kind == "sign":
        draw.rounded_rectangle((edge, edge, width - 1 - edge, height - 1 - edge), radius=4 * edge, outline=ink, width=edge)
    elif layout.kind == "slide":
        draw.rectangle((0, 0, width, 2 * edge), fill=ink)
    else:
        draw.rectangle((0, height - 3 * edge, width, height), fill=ink)
    shares = {1: (0.5,), 2: (0.42, 0.24), 3: (0.34, 0.2, 0.2)}[len(layout.lines)]
    gap = (1 - sum(shares)) / (len(shares) + 1)
    top = gap
    for line, share in zip(layout.lines, shares, strict=True):
        draw_line(draw, line, layout, (0.07 * width, top * height, 0.93 * width, (top + share) * height), ink)
        top += share + gap
    return image


def draw_line(
    draw: ImageDraw.ImageDraw, text: str, layout: Layout, box: tuple[float, float, float, float], ink: tuple[int, int, int]
) -> None:
    """Sets one line as large as the box allows; slides align left, the rest centre."""
    size = int(box[3] - box[1])
    font = font_of(layout.language, layout.bold, size)
    wide = draw.textlength(text, font=font)
    if wide > box[2] - box[0]:
        font = font_of(layout.language, layout.bold, max(6, int(size * (box[2] - box[0]) / wide)))
    middle = (box[1] + box[3]) / 2
    if layout.kind == "slide":
        draw.text((box[0], middle), text, font=font, fill=ink, anchor="lm")
    else:
        draw.text(((box[0] + box[2]) / 2, middle), text, font=font, fill=ink, anchor="mm")


@lru_cache(maxsize=256)
def font_of(language: str, bold: bool, size: int) -> ImageFont.FreeTypeFont:
    """Noto Sans (English) or Noto Sans CJK SC (Chinese) at a size in pixels."""
    if language == "zh":
        file, index = resources.files("manimgx_fonts_cjk") / "NotoSansCJK-VF.otf.ttc", 2
    else:
        file, index = resources.files("manimgx_fonts") / "NotoSans[wght].ttf", 0
    font = ImageFont.truetype(str(file), size, index=index)
    weight = 700 if bold else 400
    others = [float(axis["default"] or 0) for axis in font.get_variation_axes()[1:]]
    font.set_variation_by_axes([weight, *others])
    return font


def poster_captions(layout: Layout) -> tuple[Caption, ...]:
    """Captions that transcribe every visible word; the quoted text keeps its language."""
    _, _, colour, colour_zh = PALETTES[layout.palette]
    title, rest = layout.lines[0], layout.lines[1:]
    below = f" and below it {' and '.join(f'“{line}”' for line in rest)}" if rest else ""
    below_zh = f"，下方写着{'和'.join(f'“{line}”' for line in rest)}" if rest else ""
    weight = "bold" if layout.bold else "regular"
    return (
        Caption("long", "en", f"A {colour} {layout.kind} with the words “{title}” in large {weight} letters{below}."),
        Caption("medium", "en", f"a {colour} {layout.kind} that says “{title}”"),
        Caption("short", "en", f"{layout.kind} saying “{title}”"),
        Caption("tags", "en", ", ".join([layout.kind, colour, "text", *layout.lines])),
        Caption("user", "en", f"make a {layout.kind} with the text “{title}”"),
        Caption("long", "zh", f"一张{colour_zh}{KINDS_ZH[layout.kind]}，大字写着“{title}”{below_zh}。"),
        Caption("short", "zh", f"写着“{title}”的{KINDS_ZH[layout.kind]}"),
    )
