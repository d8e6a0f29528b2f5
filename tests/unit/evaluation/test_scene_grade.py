"""A grade is the true share of a prompt; it is whole exactly where the judge says yes."""

from __future__ import annotations

import pytest

from imagewright.evaluation.scene_grade import grade_objects
from imagewright.evaluation.scene_judge import SceneObject, ScenePrompt, says_true


def thing(shape: str, colour: str, x: float) -> SceneObject:
    return SceneObject(shape, colour, (x - 0.1, 0.4, x + 0.1, 0.6))


RED_LEFT_OF_BLUE = ScenePrompt("position", (("circle", "red"), ("square", "blue")), "left of")
TWO_STARS = ScenePrompt("counting", (("star", "red"),), None, 2)


@pytest.mark.parametrize(
    ("objects", "prompt", "share"),
    [
        ([thing("circle", "red", 0.2), thing("square", "blue", 0.8)], RED_LEFT_OF_BLUE, 1.0),
        ([thing("circle", "red", 0.8), thing("square", "blue", 0.2)], RED_LEFT_OF_BLUE, 0.8),
        ([thing("circle", "green", 0.2), thing("square", "blue", 0.8)], RED_LEFT_OF_BLUE, 0.8),
        ([thing("circle", "red", 0.2)], RED_LEFT_OF_BLUE, 0.4),
        ([], RED_LEFT_OF_BLUE, 0.0),
        ([thing("star", "red", 0.2), thing("star", "red", 0.8)], TWO_STARS, 1.0),
        ([thing("star", "red", 0.2), thing("star", "blue", 0.8)], TWO_STARS, 0.75),
        ([thing("star", "red", 0.2)], TWO_STARS, 0.5),
        ([thing("star", "red", x / 10) for x in range(6)], TWO_STARS, 0.0),
    ],
)
def test_the_share_of_true_facts(objects: list[SceneObject], prompt: ScenePrompt, share: float) -> None:
    graded = grade_objects(objects, prompt)
    assert graded.share == pytest.approx(share)
    assert (graded.share == 1.0) == says_true(objects, prompt)
