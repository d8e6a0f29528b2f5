"""Caption hygiene: text from anywhere becomes clean, bounded captions, and visible text is transcribed into the long one."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from imagewright.data.manifest import CAPTION_FORMS, Caption

MAX_INPUT_CHARS = 100_000


def clean_text(text: str, max_chars: int) -> str:
    """NFC text without control and unassigned characters, white space collapsed, cut at a word so that at most max_chars remain.

    Scripts are left alone: a caption in an unknown script is a caption.
    """
    normal = unicodedata.normalize("NFC", text[:MAX_INPUT_CHARS])
    kept = "".join(" " if char.isspace() else char for char in normal if char.isspace() or unicodedata.category(char)[0] != "C")
    words = " ".join(kept.split())
    if len(words) <= max_chars:
        return words
    cut = words[: max_chars + 1]
    return (cut[: cut.rfind(" ")] if " " in cut else cut[:max_chars]).rstrip()


def clean_captions(captions: Iterable[Caption], max_chars: int) -> tuple[Caption, ...]:
    """Cleans every caption; drops empty ones, unknown forms become `original`, and the same words in the same form stay once."""
    found: dict[tuple[str, str, str], Caption] = {}
    for caption in captions:
        text = clean_text(caption.text, max_chars)
        if text:
            form = caption.form if caption.form in CAPTION_FORMS else "original"
            language = caption.language or "und"
            found.setdefault((form, language, text), Caption(form, language, text))
    return tuple(found.values())


def transcribe(captions: tuple[Caption, ...], visible_text: str) -> tuple[Caption, ...]:
    """Adds visible text to the long (else the first) caption of each language that does not hold it yet, in its own language."""
    lines = [line for line in visible_text.split("\n") if line.strip()]
    if not lines:
        return captions
    quoted = ", ".join(f"“{line}”" for line in lines)
    done: set[str] = set()
    changed = []
    for caption in sorted(captions, key=lambda caption: CAPTION_FORMS.index(caption.form)):
        is_first = caption.language not in done
        done.add(caption.language)
        if is_first and any(line not in caption.text for line in lines):
            stop, says = ("。", f"图中文字：{quoted}。") if caption.language == "zh" else (".", f" The visible text reads {quoted}.")
            changed.append(Caption(caption.form, caption.language, caption.text.rstrip(".。") + stop + says))
        else:
            changed.append(caption)
    return tuple(changed)


def metadata_captions(concept: str, category: str) -> tuple[Caption, ...]:
    """What a source without captions still says: its concept, else the last part of its category (a source's own name says nothing)."""
    name = concept or category.partition("/")[2].rsplit("/", maxsplit=1)[-1].replace("-", " ")
    return (Caption("short", "en", name),) if name else ()
