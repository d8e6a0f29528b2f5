"""The emoji corpus: both styles of a concept share its name, its category and its split."""

from __future__ import annotations

import pytest

from imagewright.config.data import EmojiConfig
from imagewright.data.images import decode_rgb
from imagewright.sources.emoji import emoji_samples, is_concept_held_out, is_emoji_held_out, list_emoji
from imagewright.sources.samples import RawSample


@pytest.fixture(scope="module")
def samples() -> list[RawSample]:
    return list(emoji_samples(EmojiConfig(num_concepts=30, size_px=32, skin_tones=True, holdout_fraction=0.3)))


def test_both_styles_are_drawn_at_the_size_asked_for(samples: list[RawSample]) -> None:
    assert {sample.style for sample in samples} == {"openmoji", "noto"}
    assert all(decode_rgb(sample.image).shape == (32, 32, 3) for sample in samples)


def test_every_picture_has_english_and_chinese_captions_and_its_licence(samples: list[RawSample]) -> None:
    for sample in samples:
        assert {caption.language for caption in sample.captions} == {"en", "zh"}
        assert sample.licence == {"openmoji": "CC-BY-SA-4.0", "noto": "Apache-2.0"}[sample.source]


def test_a_held_out_concept_is_held_out_in_every_style_and_skin_tone(samples: list[RawSample]) -> None:
    splits: dict[str, set[str]] = {}
    for sample in samples:
        splits.setdefault(sample.concept, set()).add(sample.split)
    assert all(len(found) == 1 for found in splits.values())
    assert set().union(*splits.values()) == {"train", "holdout_concept"}


def test_the_whole_corpus_has_the_size_of_its_packages() -> None:
    assert len(list_emoji(-1, skin_tones=False)) == 1898
    assert len(list_emoji(-1, skin_tones=True)) == 3773
    assert list_emoji(0, skin_tones=True) == []
    assert len({emoji.codepoints for emoji in list_emoji(-1, skin_tones=True)}) == 3773


def test_keys_are_permanent_and_unique(samples: list[RawSample]) -> None:
    keys = [sample.sample_key for sample in samples]
    assert len(set(keys)) == len(keys)
    fewer = emoji_samples(EmojiConfig(num_concepts=5, size_px=32, styles=("openmoji",)))
    assert {sample.sample_key for sample in fewer} <= set(keys)


def test_the_share_of_held_out_concepts_is_near_the_one_asked_for() -> None:
    held = sum(is_concept_held_out(emoji.base, 0.1) for emoji in list_emoji(-1, skin_tones=False))
    assert 0.07 < held / 1898 < 0.13
    assert not is_concept_held_out("1F34E", 0.0)


def test_an_emoji_named_like_a_held_out_combination_of_scenes_is_held_out() -> None:
    held = [found.english for found in list_emoji(-1, skin_tones=False) if is_emoji_held_out(found, 0.0)]
    assert held == ["yellow circle", "purple square"]
