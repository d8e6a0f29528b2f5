"""The vocabulary and ground truth of composed scenes, and the combinations held out of training.

Every word of a held-out combination is seen in training with other partners; the combination itself is seen nowhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from typing import Any, Literal

Task = Literal["single", "two", "counting", "colors", "position", "color_attr"]
Style = Literal["flat", "outlined", "dark"]

TASKS: tuple[Task, ...] = ("single", "two", "counting", "colors", "position", "color_attr")
STYLES: tuple[Style, ...] = ("flat", "outlined", "dark")
SHAPES = ("circle", "square", "triangle", "star", "cross")
MAX_COUNT = 4

# Eight fully saturated colours at least 90 apart in RGB, none of them a background.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 30),
    "orange": (255, 140, 0),
    "yellow": (245, 220, 20),
    "green": (20, 150, 50),
    "cyan": (0, 205, 220),
    "blue": (30, 60, 220),
    "purple": (130, 30, 170),
    "pink": (255, 120, 190),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {"white": (255, 255, 255), "grey": (205, 205, 205), "black": (16, 16, 20)}
STYLE_BACKGROUNDS: dict[Style, tuple[str, ...]] = {"flat": ("white", "grey"), "outlined": ("white", "grey"), "dark": ("black",)}

RELATIONS = ("left of", "right of", "above", "below")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

HELD_OUT_COLOUR_SHAPES = frozenset({("red", "star"), ("blue", "triangle"), ("green", "cross"), ("yellow", "circle"), ("purple", "square")})
# (first, relation, second); the same picture told from the other side is held out with it.
HELD_OUT_RELATIONS = frozenset(
    {("circle", "left of", "triangle"), ("star", "above", "square"), ("cross", "left of", "circle"), ("triangle", "above", "star")}
)
HELD_OUT_COUNTS = frozenset({(3, "triangle"), (4, "circle"), (2, "star"), (3, "cross"), (4, "square")})


@dataclass(frozen=True)
class SceneObject:
    """One drawn shape."""

    shape: str
    colour: str
    size: str
    """small or large, within what the task's layout allows."""
    box: tuple[float, float, float, float]
    """x0, y0, x1, y1 in 0..1, origin at the top left."""

    @property
    def centre(self) -> tuple[float, float]:
        """x, y of the box's middle in 0..1."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


@dataclass(frozen=True)
class SceneSpec:
    """Exact ground truth of one scene; the manifest's `scene` column holds it as JSON."""

    background: str
    objects: tuple[SceneObject, ...]
    relation: str | None
    """Of the first object to the second; null unless the task is position."""
    count: int | None
    """Number of equal objects; null unless the task is counting."""
    style: str
    task: str

    def to_json(self) -> str:
        """Canonical JSON."""
        tree = asdict(self)
        for shape in tree["objects"]:
            shape["box"] = [round(edge, 4) for edge in shape["box"]]
        return json.dumps(tree, sort_keys=True)


def scene_from_json(text: str) -> SceneSpec:
    """Parses the manifest's `scene` column. Raises ValueError when it is not a scene."""
    try:
        tree: dict[str, Any] = json.loads(text)
        objects = tuple(SceneObject(o["shape"], o["colour"], o["size"], box_of(o["box"])) for o in tree.pop("objects"))
        return SceneSpec(objects=objects, **tree)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a scene: {error}") from error


def box_of(edges: Sequence[float]) -> tuple[float, float, float, float]:
    """Four edges as numbers. Raises ValueError for any other count."""
    x0, y0, x1, y1 = map(float, edges)
    return x0, y0, x1, y1


def relations_between(first: SceneObject, second: SceneObject) -> list[str]:
    """Relations of `first` to `second` that the picture shows: the axis on which the boxes do not overlap."""
    found = []
    if first.box[2] <= second.box[0]:
        found.append("left of")
    if second.box[2] <= first.box[0]:
        found.append("right of")
    if first.box[3] <= second.box[1]:
        found.append("above")
    if second.box[3] <= first.box[1]:
        found.append("below")
    return found


def combinations_of(spec: SceneSpec) -> Iterator[tuple[Any, ...]]:
    """Every (colour, shape), (shape, relation, shape) and (count, shape) combination that the picture shows, whatever its task."""
    for shape in spec.objects:
        yield shape.colour, shape.shape
    for first, second in permutations(spec.objects, 2):
        if first.shape != second.shape:
            for relation in relations_between(first, second):
                yield first.shape, relation, second.shape
    for name in {shape.shape for shape in spec.objects}:
        yield sum(shape.shape == name for shape in spec.objects), name


def is_combination_held_out(combination: tuple[Any, ...]) -> bool:
    """True for a held-out combination in either direction of its relation."""
    if len(combination) == 3:
        first, relation, second = combination
        return combination in HELD_OUT_RELATIONS or (second, OPPOSITE[relation], first) in HELD_OUT_RELATIONS
    return combination in HELD_OUT_COLOUR_SHAPES or combination in HELD_OUT_COUNTS


def is_held_out(spec: SceneSpec) -> bool:
    """True when the picture shows any held-out combination; such a scene never enters training."""
    return any(is_combination_held_out(combination) for combination in combinations_of(spec))
