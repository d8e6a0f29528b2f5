"""Grades a sample of a composed scene: the share of what its prompt says that is true. Ranks samples for preference pairs.

The judge beside it says yes or no; a grade of 1 is exactly its yes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from imagewright.evaluation.scene_judge import Pixels, SceneObject, ScenePrompt, holds, matches, read_scene


@dataclass(frozen=True)
class Grade:
    """Share of true facts of each checkable dimension (`shape`, `colour`, `relation`, `count`), and of all facts."""

    dimensions: dict[str, float]
    share: float


def grade(image: Pixels, prompt: ScenePrompt) -> Grade:
    """Grades an image [H, W, 3]."""
    return grade_objects(read_scene(image), prompt)


def grade_objects(objects: Sequence[SceneObject], prompt: ScenePrompt) -> Grade:
    """The most favourable reading of the objects; each named object needs one of its own."""
    if prompt.count is not None:
        return count_grade(objects, prompt)
    missing: list[SceneObject | None] = [None] * len(prompt.objects)
    readings = permutations([*objects, *missing], len(prompt.objects))
    return max((reading_grade(reading, prompt) for reading in readings), key=lambda found: found.share)


def reading_grade(reading: Sequence[SceneObject | None], prompt: ScenePrompt) -> Grade:
    """Grade when the prompt's objects are these, in its order. A colour counts only on the right shape, a relation between both."""
    facts: dict[str, list[float]] = {}
    for found, (shape, colour) in zip(reading, prompt.objects, strict=True):
        facts.setdefault("shape", []).append(float(found is not None and found.shape == shape))
        if colour is not None:
            facts.setdefault("colour", []).append(float(found is not None and matches(found, shape, colour)))
    if prompt.relation is not None:
        first, second = reading
        stands = first is not None and second is not None and holds(prompt.relation, first, second)
        facts["relation"] = [float(stands and all(facts["shape"]))]
    return of_facts(facts)


def count_grade(objects: Sequence[SceneObject], prompt: ScenePrompt) -> Grade:
    """Counting: how near the numbers of the shape, and of the shape in its colour, are to the count."""
    assert prompt.count is not None, "the prompt names no count"
    shape, colour = prompt.objects[0]
    of_shape = sum(found.shape == shape for found in objects)
    of_both = sum(matches(found, shape, colour) for found in objects)
    return of_facts({"count": [nearness(of_shape, prompt.count)], "colour": [nearness(of_both, prompt.count)]})


def nearness(found: int, wanted: int) -> float:
    """1 at the wanted number, falling by its share for every object too many or too few, 0 at worst."""
    return max(0.0, 1.0 - abs(found - wanted) / max(wanted, 1))


def of_facts(facts: dict[str, list[float]]) -> Grade:
    """Means by dimension and over all facts."""
    values = [value for found in facts.values() for value in found]
    return Grade({name: sum(found) / len(found) for name, found in facts.items()}, sum(values) / len(values))
