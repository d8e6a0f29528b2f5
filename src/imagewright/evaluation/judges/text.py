"""Reads text in images with the packaged OCR and scores it against the text that was asked for (LongText-Bench's accuracy)."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from imagewright.evaluation.judges.verdicts import Pixels, Prompt

NAME = "RapidOCR"
UNIT = re.compile(r"[\u3400-\u9fff]|[a-z0-9%]+")
MARGIN = 0.06
LINE_HEIGHT = 1.25
MAX_LINES = 12
READ_SIDE_PX = 512
MIN_CONFIDENCE = 0.5
MAX_KNOWN = 4096


def units_of(text: str) -> list[str]:
    """Words of alphabetic text and single characters of Chinese, without case, accents and punctuation."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return UNIT.findall("".join(character for character in plain if not unicodedata.combining(character)))


def text_accuracy(read: str, wanted: str) -> float:
    """Share of the wanted units that were read, in their order; units read beyond twice the wanted ones count against it."""
    units, found = units_of(wanted), units_of(read)
    if not units:
        return float(not found)
    matched = sum(block.size for block in SequenceMatcher(None, units, found, autojunk=False).get_matching_blocks())
    return matched / max(len(units), len(found) - len(units))


class TextReader:
    """Scores images by the text in them; what was read lately is kept, because one image meets several prompts in a trial."""

    def __init__(self) -> None:
        self.known: dict[bytes, str] = {}

    def __call__(self, image: Pixels, prompt: Prompt) -> float:
        """Accuracy of the text in an image [H, W, 3] against the prompt's truth."""
        key = hashlib.sha256(image.tobytes()).digest()
        if key not in self.known:
            if len(self.known) >= MAX_KNOWN:
                self.known.clear()
            self.known[key] = read_lines(image)
        return text_accuracy(self.known[key], str(prompt.truth))


def read_lines(image: Pixels) -> str:
    """Lines the OCR is sure of, top to bottom, single characters too: unlike in curation, text is expected here."""
    from imagewright.curation.ocr import reader_model

    scale = max(1, READ_SIDE_PX // max(image.shape[:2]))
    enlarged = Image.fromarray(image).resize((image.shape[1] * scale, image.shape[0] * scale), Image.Resampling.BICUBIC)
    found = reader_model()(np.ascontiguousarray(np.asarray(enlarged)[:, :, ::-1]))
    if found.txts is None:
        return ""
    tops = np.asarray(found.boxes)[:, :, 1].mean(axis=1)
    return "\n".join(found.txts[i] for i in np.argsort(tops, kind="stable") if found.scores[i] >= MIN_CONFIDENCE)


@lru_cache(maxsize=1)
def reader_digest() -> str:
    """SHA-256 over the OCR package's model files and this module."""
    import rapidocr

    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(Path(rapidocr.__file__ or "").parent.rglob("*.onnx")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def typeset(text: str, side_px: int) -> Pixels:
    """Text in dark letters on a light square [side_px, side_px, 3], as large as fits in at most MAX_LINES lines: ground truth."""
    from imagewright.sources.posters import font_of

    language = "zh" if re.search(r"[\u3400-\u9fff]", text) else "en"
    image = Image.new("RGB", (side_px, side_px), (250, 248, 240))
    draw = ImageDraw.Draw(image)
    room = side_px * (1 - 2 * MARGIN)
    size = max(6, int(room / 4))
    while True:
        font = font_of(language, False, size)
        lines = wrap(text, lambda part: float(draw.textlength(part, font=font)), room, "" if language == "zh" else " ")  # noqa: B023
        if size == 6 or (lines and len(lines) <= MAX_LINES and len(lines) * size * LINE_HEIGHT <= room):
            break
        size = max(6, int(size * 0.88))
    for place, line in enumerate(lines):
        draw.text((side_px * MARGIN, side_px * MARGIN + place * size * LINE_HEIGHT), line, font=font, fill=(25, 25, 35))
    return np.asarray(image)


def wrap(text: str, width_of: Callable[[str], float], room: float, joint: str) -> list[str]:
    """Lines no wider than `room`; empty when a single piece does not fit."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        current = ""
        for piece in paragraph.split(joint) if joint else list(paragraph):
            longer = f"{current}{joint}{piece}" if current else piece
            if width_of(longer) <= room:
                current = longer
            elif width_of(piece) > room:
                return []
            else:
                lines.append(current)
                current = piece
        lines.append(current)
    return [line for line in lines if line]


def change_unit(text: str, words: Sequence[str], rng: np.random.Generator) -> str:
    """The same text with one word (or one Chinese character) replaced by another from `words`."""
    chinese = not re.search(r"[a-z]", text.casefold())
    pieces = list(text) if chinese else text.split(" ")
    places = [place for place, piece in enumerate(pieces) if units_of(piece)]
    place = places[int(rng.integers(len(places)))]
    options = [word for word in words if units_of(word) != units_of(pieces[place])]
    pieces[place] = options[int(rng.integers(len(options)))]
    return ("" if chinese else " ").join(pieces)
