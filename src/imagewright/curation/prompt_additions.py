"""Remarks put into both sides of a training pair, so that the enhancer learns to carry over what it knows nothing of.

A corpus whose prompts say nothing but what its pictures show teaches a model to drop an exclusion, a count or a word on a sign.
"""

from __future__ import annotations

import numpy as np

from imagewright.curation.prompt_constraints import OBJECTS
from imagewright.curation.rewriting import visible_texts

THINGS = ("people", "birds", "clouds", "trees", "shadows", "frames", "logos", "dogs", "lamps", "books", "flowers", "cars", "snowflakes")
EXCLUSIONS = ("no {thing}", "without any {thing}", "without {thing}", "but no {thing}")
COUNTS = ("{count} {thing}", "with {count} {thing}", "exactly {count} {thing}", "and {count} {thing}")
WORDS = (
    "HELLO", "NORTH", "GATE", "JAZZ", "SUMMER", "TEA", "ROOM", "FINAL", "STATION", "PRESS", "STOP", "RADIO", "GARDEN", "MEET", "RIVER",
    "LIMITED", "ORDER", "NOW", "HARBOUR", "LAST", "CALL", "WELCOME", "BLUE HOUR", "SOLD OUT", "15% LESS", "8/11", "A4", "7:30",
)  # fmt: skip
SIGNS = ("with the words “{text}”", "with “{text}” written on it", "and the text “{text}”", "saying “{text}”")
FOREIGN = ("夜晚", "下雨的街道", "复古风格", "солнце", "тихий вечер", "בוקר", "أزرق هادئ", "朝の光", "mañana", "über allem", "정원")
LOOKS = ("at dusk", "in the rain", "seen from far away", "like a woodcut", "in neon light", "made of paper", "very old")


def draw_addition(rng: np.random.Generator, caption: str) -> str:
    """One remark that does not contradict a caption: something excluded, counted, written, foreign, or a mood."""
    kind = int(rng.integers(5))
    if kind == 0:
        absent = (*THINGS, *sorted(thing for thing in OBJECTS if thing not in caption))
        return pick(rng, EXCLUSIONS).format(thing=pick(rng, absent))
    if kind == 1:
        return pick(rng, COUNTS).format(count=pick(rng, (*"23456789", "12", "three", "five")), thing=pick(rng, THINGS))
    if kind == 2 and not visible_texts(caption):
        return pick(rng, SIGNS).format(text=" ".join(pick(rng, WORDS) for _ in range(int(rng.integers(1, 4)))))
    return pick(rng, FOREIGN if kind == 3 else LOOKS)


def pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    """One of the options, all equally likely."""
    return options[int(rng.integers(len(options)))]


def add_to_both(prompt: str, caption: str, addition: str) -> tuple[str, str]:
    """The remark at the end of prompt and caption; the caption keeps its full stop."""
    bare = prompt.rstrip(" .。!?")
    return f"{bare}, {addition}", f"{caption.rstrip(' .。')}, {addition}."
