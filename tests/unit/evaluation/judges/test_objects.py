"""What counts as painted right: numbers, colours and places, each with a case just inside and just outside."""

from __future__ import annotations

import numpy as np
import pytest

from imagewright.evaluation.benchmarks.geneval_prompts import ObjectTruth, Wanted
from imagewright.evaluation.judges.detector import Found
from imagewright.evaluation.judges.objects import COUNTING_CONFIDENCE, ObjectJudge, Seen, relations, satisfies
from imagewright.evaluation.judges.verdicts import Prompt

LEFT, RIGHT = (0.0, 0.2, 0.4, 0.8), (0.6, 0.2, 1.0, 0.8)
WHITE = np.full((64, 64, 3), 255, dtype=np.uint8)


def test_a_number_is_neither_missed_nor_exceeded() -> None:
    truth = ObjectTruth((Wanted("dog", 2),), (("dog", 3),))
    dogs = [Seen("dog", LEFT)] * 3
    assert [satisfies(dogs[:count], truth) for count in (1, 2, 3)] == [False, True, False]


def test_colours_belong_to_their_own_object() -> None:
    truth = ObjectTruth((Wanted("car", 1, "red"), Wanted("dog", 1, "white")))
    assert satisfies([Seen("car", LEFT, "red"), Seen("dog", RIGHT, "white")], truth)
    assert not satisfies([Seen("car", LEFT, "white"), Seen("dog", RIGHT, "red")], truth)


def test_places_are_told_by_centres_beyond_a_tenth_of_both_sizes() -> None:
    assert relations(Seen("a", LEFT), Seen("b", RIGHT)) == {"left of"}
    assert relations(Seen("a", (0, 0, 1, 0.3)), Seen("b", (0, 0.7, 1, 1))) == {"above"}
    near = [relations(Seen("a", (0.0, 0.0, 0.5, 0.5)), Seen("b", (shift, 0.0, 0.5 + shift, 0.5))) for shift in (0.1, 0.25)]
    assert near == [set(), {"left of"}]
    truth = ObjectTruth((Wanted("b"), Wanted("a", relation=("left of", 0))))
    assert satisfies([Seen("a", LEFT), Seen("b", RIGHT)], truth)
    assert not satisfies([Seen("a", RIGHT), Seen("b", LEFT)], truth)


@pytest.mark.parametrize(("confidence", "score"), [(COUNTING_CONFIDENCE, 1.0), (COUNTING_CONFIDENCE - 0.01, 0.0)])
def test_counting_wants_surer_detections(confidence: float, score: float) -> None:
    judge = ObjectJudge(lambda _: [Found("dog", 0.9, LEFT), Found("dog", confidence, RIGHT)])
    counting = Prompt("", "counting", "two dogs", ObjectTruth((Wanted("dog", 2),), (("dog", 3),)))
    assert judge(WHITE, counting) == score
    assert judge(WHITE, Prompt("", "single", "a dog", ObjectTruth((Wanted("dog"),)))) == 1.0


def test_the_colour_of_a_box_is_read_from_its_pixels() -> None:
    image = WHITE.copy()
    image[16:48, 0:26] = (200, 20, 30)
    judge = ObjectJudge(lambda _: [Found("car", 0.9, (0.0, 0.25, 0.4, 0.75))])
    scores = [judge(image, Prompt("", "colors", "", ObjectTruth((Wanted("car", 1, colour),)))) for colour in ("red", "blue", "white")]
    assert scores == [1.0, 0.0, 0.0]
