"""Prompts of GenEval's form (2310.11513) over the 80 COCO classes: 553 of our own drawing, or the benchmark's own metadata file.

Ours have the benchmark's mix of tasks, wording and rules, not its draws: a score on them compares models, not publications.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from imagewright.errors import Problem
from imagewright.evaluation.benchmarks.official import BenchmarkError, json_lines, wrong_row
from imagewright.evaluation.judges.verdicts import Prompt

# fmt: off
CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light", "fire hydrant",
    "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe",
    "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat",
    "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl",
    "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "computer mouse", "tv remote", "computer keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier",
    "toothbrush",
)
# fmt: on
"""COCO's 80 classes in its own order, in the benchmark's words."""
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
RELATIONS = ("left of", "right of", "above", "below")
NUMBERS = ("zero", "one", "two", "three", "four")
TASK_OF_TAG = {
    "single_object": "single",
    "two_object": "two",
    "counting": "counting",
    "colors": "colors",
    "position": "position",
    "color_attr": "color_attr",
}
"""The benchmark's names of the tasks -> ours."""
NUM_PROMPTS = {"single": 80, "two": 99, "counting": 80, "colors": 94, "position": 100, "color_attr": 100}
"""The benchmark's mix: 553 prompts."""
PLURALS = {
    "person": "people",
    "knife": "knives",
    "sheep": "sheep",
    "skis": "skis",
    "scissors": "scissors",
    "computer mouse": "computer mice",
}
SIBILANTS = ("s", "x", "sh", "ch")


@dataclass(frozen=True)
class Wanted:
    """One object a prompt asks for. count: how many at least. relation: how it lies to an earlier object, by that object's number."""

    name: str
    count: int = 1
    colour: str | None = None
    relation: tuple[str, int] | None = None


@dataclass(frozen=True)
class ObjectTruth:
    """What must be seen, and what must not: a class with the number from which there are too many."""

    include: tuple[Wanted, ...]
    exclude: tuple[tuple[str, int], ...] = ()


def generated_prompts(suite: str, seed: int, limit: int = 0) -> list[Prompt]:
    """553 prompts with different texts in the benchmark's mix; the first `limit` of every task when it is not 0."""
    rng = np.random.default_rng([seed, *suite.encode()])
    found: list[Prompt] = []
    for task, count in NUM_PROMPTS.items():
        texts: dict[str, ObjectTruth] = {}
        if task == "single":
            texts = {f"a photo of {with_article(CLASSES[i])}": ObjectTruth((Wanted(CLASSES[i]),)) for i in rng.permutation(len(CLASSES))}
        while len(texts) < count:
            text, truth = DRAWS[task](rng)
            texts.setdefault(text, truth)
        chosen = list(texts.items())[: limit or count]
        found += [Prompt(f"{suite}-{task}-{i}", task, text, truth) for i, (text, truth) in enumerate(chosen)]
    return found


def draw_two(rng: np.random.Generator) -> tuple[str, ObjectTruth]:
    """Two different classes."""
    first, second = different(CLASSES, rng)
    return f"a photo of {with_article(first)} and {with_article(second)}", ObjectTruth((Wanted(first), Wanted(second)))


def draw_counting(rng: np.random.Generator) -> tuple[str, ObjectTruth]:
    """Two to four of one class, and not one more."""
    name, count = CLASSES[int(rng.integers(len(CLASSES)))], int(rng.integers(2, 5))
    return f"a photo of {NUMBERS[count]} {plural(name)}", ObjectTruth((Wanted(name, count),), ((name, count + 1),))


def draw_colour(rng: np.random.Generator) -> tuple[str, ObjectTruth]:
    """One coloured thing; people have no colour here."""
    name, colour = CLASSES[int(rng.integers(1, len(CLASSES)))], COLOURS[int(rng.integers(len(COLOURS)))]
    return f"a photo of {with_article(f'{colour} {name}')}", ObjectTruth((Wanted(name, 1, colour),))


def draw_position(rng: np.random.Generator) -> tuple[str, ObjectTruth]:
    """Two different classes and how the first lies to the second."""
    first, second = different(CLASSES, rng)
    relation = RELATIONS[int(rng.integers(len(RELATIONS)))]
    truth = ObjectTruth((Wanted(second), Wanted(first, relation=(relation, 0))))
    return f"a photo of {with_article(first)} {relation} {with_article(second)}", truth


def draw_colour_pair(rng: np.random.Generator) -> tuple[str, ObjectTruth]:
    """Two different things in different colours."""
    names, colours = different(CLASSES[1:], rng), different(COLOURS, rng)
    told = [with_article(f"{colour} {name}") for name, colour in zip(names, colours, strict=True)]
    wanted = tuple(Wanted(name, 1, colour) for name, colour in zip(names, colours, strict=True))
    return f"a photo of {' and '.join(told)}", ObjectTruth(wanted)


DRAWS: dict[str, Callable[[np.random.Generator], tuple[str, ObjectTruth]]] = {
    "two": draw_two,
    "counting": draw_counting,
    "colors": draw_colour,
    "position": draw_position,
    "color_attr": draw_colour_pair,
}


def different(options: tuple[str, ...], rng: np.random.Generator) -> tuple[str, str]:
    """Two different options."""
    first, second = rng.choice(len(options), 2, replace=False)
    return options[int(first)], options[int(second)]


def with_article(name: str) -> str:
    """ "an" before a vowel. Words that are plural by themselves keep their article: that is the benchmark's wording."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def plural(name: str) -> str:
    """More than one of a class."""
    if name in PLURALS:
        return PLURALS[name]
    return f"{name}es" if name.endswith(SIBILANTS) else f"{name}s"


def geneval_prompts(text: str, suite: str) -> list[Prompt]:
    """GenEval's evaluation_metadata.jsonl: `tag`, `prompt`, `include` and, where a count must not be exceeded, `exclude`."""
    found = []
    for number, row in json_lines(text, suite):
        task = TASK_OF_TAG.get(str(row.get("tag")))
        if task is None or not isinstance(row.get("prompt"), str):
            raise wrong_row(suite, number, f"needs `prompt` and a `tag` of {', '.join(TASK_OF_TAG)}", row)
        try:
            include = tuple(wanted_of(item) for item in row["include"])
            exclude = tuple((known_class(item["class"]), int(item["count"])) for item in row.get("exclude", ()))
            linked = all(0 <= item.relation[1] < place for place, item in enumerate(include) if item.relation)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise wrong_row(suite, number, f"has objects that cannot be read: {error}", row) from error
        if not include or not linked:
            raise wrong_row(suite, number, "needs an object in `include`, and positions relative to earlier ones", row)
        found.append(Prompt(f"{suite}-{number}", task, row["prompt"], ObjectTruth(include, exclude)))
    if not found:
        raise BenchmarkError(Problem(f"evaluation.benchmarks.{suite}", "holds no prompt", None, "give evaluation_metadata.jsonl"))
    return found


def wanted_of(item: dict[str, Any]) -> Wanted:
    """One object of `include`. Raises ValueError for a class, colour or relation that GenEval does not know."""
    colour, position = item.get("color"), item.get("position")
    if colour is not None and colour not in COLOURS:
        raise ValueError(f"colour {colour!r}")
    if position is not None and position[0] not in RELATIONS:
        raise ValueError(f"position {position[0]!r}")
    relation = (str(position[0]), int(position[1])) if position is not None else None
    return Wanted(known_class(item["class"]), int(item["count"]), colour, relation)


def known_class(name: str) -> str:
    """The class itself. Raises ValueError when it is none of COCO's 80."""
    if name not in CLASSES:
        raise ValueError(f"class {name!r}")
    return name
