"""Captions from anywhere: missing, empty, huge, in unknown scripts, with control characters; none stops anything."""

from __future__ import annotations

import pytest

from imagewright.curation.captions import MAX_INPUT_CHARS, clean_captions, clean_text, metadata_captions, transcribe
from imagewright.data.manifest import Caption


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("", ""),
        (" \t\r\n\u2028 ", ""),
        ("\x00\x07\x1b[31m", "[31m"),
        ("a\x00 red\u202e\u200b star\x7f", "a red star"),
        ("two\nlines\there", "two lines here"),
        ("cafe\u0301", "caf\u00e9"),
        ("\u1200\u1208 \u16a0\u16a1 \U00012000", "\u1200\u1208 \u16a0\u16a1 \U00012000"),
        ("\ud800 half a pair \ue000 private \U0010ffff", "half a pair private"),
    ],
    ids=["empty", "spaces", "control only", "control inside", "lines", "composed", "rare scripts", "no characters"],
)
def test_text_is_cleaned_and_scripts_are_left_alone(raw: str, clean: str) -> None:
    assert clean_text(raw, 100) == clean


def test_a_huge_caption_is_cut_at_a_word_and_a_huge_word_in_the_middle() -> None:
    assert clean_text("word " * 1_000_000, 12) == "word word"
    assert clean_text("word word word", 14) == "word word word"
    assert clean_text("x" * 10 * MAX_INPUT_CHARS, 50) == "x" * 50


def test_empty_captions_go_and_equal_ones_stay_once() -> None:
    given = [
        Caption("long", "en", "A  star"),
        Caption("long", "en", "A star"),
        Caption("odd", "", "A star"),
        Caption("short", "en", "\x00 "),
    ]
    assert clean_captions(given, 100) == (Caption("long", "en", "A star"), Caption("original", "und", "A star"))
    assert clean_captions([], 100) == ()


def test_visible_text_is_added_once_a_language_and_only_where_it_is_missing() -> None:
    captions = (Caption("short", "en", "a sign"), Caption("long", "en", "A sign."), Caption("long", "zh", "\u4e00\u5757\u724c\u5b50\u3002"))
    long, chinese, short = transcribe(captions, "OPEN\n \nDAILY")
    assert long.text == "A sign. The visible text reads \u201cOPEN\u201d, \u201cDAILY\u201d."
    assert chinese.text.endswith("\u201cOPEN\u201d, \u201cDAILY\u201d\u3002")
    assert short.text == "a sign"
    assert transcribe((long,), "OPEN\nDAILY") == (long,)
    assert transcribe((), "OPEN") == ()


def test_a_source_without_captions_names_its_concept() -> None:
    assert metadata_captions("red apple", "food/fruit") == (Caption("short", "en", "red apple"),)
    assert metadata_captions("", "food/fresh-fruit") == (Caption("short", "en", "fresh fruit"),)
    assert metadata_captions("", "") == metadata_captions("", "my_folder") == ()
