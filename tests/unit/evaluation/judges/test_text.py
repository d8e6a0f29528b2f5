"""Reading text in images, and how what was read becomes a score."""

from __future__ import annotations

import numpy as np
import pytest

from imagewright.evaluation.judges.text import TextReader, change_unit, text_accuracy, typeset, units_of
from imagewright.evaluation.judges.verdicts import Prompt


@pytest.mark.parametrize(
    ("read", "wanted", "accuracy"),
    [
        ("Fresh BREAD, today!", "fresh bread today", 1.0),
        ("fresh bread", "fresh bread today", 2 / 3),
        ("today bread fresh", "fresh bread today", 1 / 3),
        ("新鲜包", "新鲜面包", 0.75),
        ("", "fresh", 0.0),
        ("", "", 1.0),
        ("noise", "", 0.0),
        ("a b c d e f", "a b", 0.5),
    ],
)
def test_accuracy_is_the_share_of_wanted_units_in_order(read: str, wanted: str, accuracy: float) -> None:
    assert text_accuracy(read, wanted) == pytest.approx(accuracy)


def test_units_are_words_and_chinese_characters() -> None:
    assert units_of("CAFÉ 24，营业中") == ["cafe", "24", "营", "业", "中"]


def test_one_unit_is_changed() -> None:
    rng = np.random.default_rng(0)
    for text, words in (("the door is shut", ("river",)), ("请随手关门", ("山",))):
        before, after = units_of(text), units_of(change_unit(text, words, rng))
        assert sum(a != b for a, b in zip(before, after, strict=True)) == 1


@pytest.mark.parametrize("text", ["The library closes at nine tonight", "图书馆今晚九点关门"])
def test_typeset_text_is_read_back_and_a_wrong_one_is_not(text: str) -> None:
    reader, image = TextReader(), typeset(text, 128)
    assert reader(image, Prompt("p", "en", "", text)) == 1.0
    assert reader(image, Prompt("p", "en", "", "another river 山水")) == 0.0
    assert len(reader.known) == 1
