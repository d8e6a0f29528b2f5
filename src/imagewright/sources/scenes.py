"""Composed scenes: a few large, distinct shapes drawn from an exact ground truth, so that what a model paints can be judged exactly.

Splits: train and validation never show a held-out combination; every `holdout_compositional` scene shows at least one.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw

from imagewright.config.data import ScenesConfig
from imagewright.sources.samples import RawSample, stream
from imagewright.sources.scene_captions import captions_of
from imagewright.sources.scene_spec import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_COLOUR_SHAPES,
    HELD_OUT_COUNTS,
    HELD_OUT_RELATIONS,
    MAX_COUNT,
    RELATIONS,
    SHAPES,
    STYLE_BACKGROUNDS,
    STYLES,
    SceneObject,
    SceneSpec,
    Task,
    is_held_out,
)

T = TypeVar("T")

SOURCE = "scenes"
LICENCE = "CC0-1.0"
SUPERSAMPLE = 4
OUTLINE = (30, 30, 35)
MAX_TRIES = 1000

# Radius of a shape as a fraction of the image side, (small, large): at 32 px the smallest is 10 px wide.
RADII: dict[int, dict[str, tuple[float, float]]] = {
    1: {"small": (0.22, 0.27), "large": (0.32, 0.40)},
    2: {"small": (0.175, 0.19), "large": (0.20, 0.22)},
    3: {"small": (0.17, 0.18), "large": (0.195, 0.21)},
    4: {"small": (0.17, 0.18), "large": (0.195, 0.21)},
}
# Tasks whose prompt can name a held-out combination: `single` and `two` name neither colour, count nor relation.
HOLDOUT_TASKS: tuple[Task, ...] = ("colors", "color_attr", "counting", "position")

MARGIN = 0.02
MIN_GAP = 0.04


def star_points() -> list[tuple[float, float]]:
    """A five-pointed star stretched to fill the unit box."""
    turns = [math.pi * (i / 5 - 0.5) for i in range(10)]
    points = [(math.cos(turn) * (1.0, 0.45)[i % 2], math.sin(turn) * (1.0, 0.45)[i % 2]) for i, turn in enumerate(turns)]
    x, y = zip(*points, strict=True)
    return [((px - min(x)) / (max(x) - min(x)), (py - min(y)) / (max(y) - min(y))) for px, py in points]


# Outlines in the unit box, y down; a shape fills its box exactly.
POLYGONS: dict[str, list[tuple[float, float]]] = {
    "square": [(0, 0), (1, 0), (1, 1), (0, 1)],
    "triangle": [(0.5, 0), (1, 1), (0, 1)],
    "star": star_points(),
    "cross": [(0.33, 0), (0.67, 0), (0.67, 0.33), (1, 0.33), (1, 0.67), (0.67, 0.67),
              (0.67, 1), (0.33, 1), (0.33, 0.67), (0, 0.67), (0, 0.33), (0.33, 0.33)],
}  # fmt: skip
SIDE_FACTOR = {"square": 0.86}
"""A square of the same box looks larger than the other shapes."""


def scene_samples(section: ScenesConfig, seed: int) -> Iterator[RawSample]:
    """`section.num_samples` scenes; the same (section, seed) gives the same bytes."""
    for index in range(section.num_samples):
        yield scene_sample(section, seed, index)


def scene_sample(section: ScenesConfig, seed: int, index: int) -> RawSample:
    """Scene number `index`: its split, task, ground truth, captions and PNG depend on (section, seed, index) only."""
    rng = stream(seed, SOURCE, index)
    draw = rng.random()
    split = "train"
    if draw < section.holdout_fraction:
        split = "holdout_compositional"
    elif draw < section.holdout_fraction + section.validation_fraction:
        split = "validation"
    tasks = tuple(task for task in section.tasks if task in HOLDOUT_TASKS) if split == "holdout_compositional" else section.tasks
    spec = compose_scene(
        rng, tasks[int(rng.integers(len(tasks)))], held_out=split == "holdout_compositional", freedom=section.layout_freedom
    )
    buffer = io.BytesIO()
    draw_scene(spec, section.size_px).save(buffer, "PNG", compress_level=1)
    first = spec.objects[0]
    return RawSample(
        sample_key=f"scene-{seed}-{index:07d}",
        image=buffer.getvalue(),
        extension="png",
        source=SOURCE,
        licence=LICENCE,
        captions=captions_of(spec, rng, section.languages),
        style=spec.style,
        concept="+".join(f"{shape.colour} {shape.shape}" for shape in spec.objects)
        if spec.count is None
        else f"{spec.count} {first.shape}",
        category=f"scene/{spec.task}",
        split=split,
        scene=spec.to_json(),
        width=section.size_px,
        height=section.size_px,
    )


def compose_scene(rng: np.random.Generator, task: Task, *, held_out: bool = False, freedom: float = 1.0) -> SceneSpec:
    """Draws the ground truth of one scene of `task`; held_out says whether it must show a held-out combination or must not.

    freedom is `ScenesConfig.layout_freedom`.
    """
    for _ in range(MAX_TRIES):
        spec = propose(rng, task, held_out, freedom)
        if is_held_out(spec) == held_out:
            return spec
    raise AssertionError(f"no {'held-out ' if held_out else ''}scene of task {task} in {MAX_TRIES} tries")


def propose(rng: np.random.Generator, task: Task, held_out: bool, freedom: float = 1.0) -> SceneSpec:
    """One candidate scene; a held-out proposal starts from a held-out combination of its task."""
    style = STYLES[int(rng.integers(len(STYLES)))]
    background = pick(rng, STYLE_BACKGROUNDS[style])
    count, relation = None, None
    if task == "counting":
        count, name = pick(rng, sorted(HELD_OUT_COUNTS)) if held_out else (int(rng.integers(1, MAX_COUNT + 1)), pick(rng, SHAPES))
        colour = pick(rng, tuple(COLOURS))
        names = [(colour, name)] * count
    elif task in ("single", "colors"):
        names = [pick(rng, sorted(HELD_OUT_COLOUR_SHAPES)) if held_out else (pick(rng, tuple(COLOURS)), pick(rng, SHAPES))]
    else:
        shapes = [SHAPES[i] for i in rng.permutation(len(SHAPES))[:2]]
        colours = [tuple(COLOURS)[i] for i in rng.permutation(len(COLOURS))[:2]]
        names = list(zip(colours, shapes, strict=True))
        relation = pick(rng, RELATIONS) if task == "position" else None
        if held_out and task == "position":
            first, relation, second = pick(rng, sorted(HELD_OUT_RELATIONS))
            names = [(colours[0], first), (colours[1], second)]
        elif held_out:
            names[int(rng.integers(2))] = pick(rng, sorted(HELD_OUT_COLOUR_SHAPES))
            if names[0][1] == names[1][1] or names[0][0] == names[1][0]:
                return propose(rng, task, held_out, freedom)
    return SceneSpec(background, place(rng, names, relation, freedom), relation, count, style, task)


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """A uniform choice."""
    return options[int(rng.integers(len(options)))]


def between(rng: np.random.Generator, low: float, high: float, freedom: float) -> float:
    """A uniform draw of [low, high], pulled towards its middle as freedom falls from 1 to 0."""
    middle = (low + high) / 2
    return middle + freedom * (float(rng.uniform(low, high)) - middle)


def place(rng: np.random.Generator, names: Sequence[tuple[str, str]], relation: str | None, freedom: float) -> tuple[SceneObject, ...]:
    """Gives every (colour, shape) a size and a box: boxes never touch, and a pair overlaps on the axis it is not related on."""
    sizes = [pick(rng, ("small", "large"))] * len(names)
    halves = []
    for (_, shape), size in zip(names, sizes, strict=True):
        low, high = RADII[len(names)][size]
        halves.append(between(rng, low, high, freedom) * SIDE_FACTOR.get(shape, 1.0))
    if len(names) == 1:
        low, high = halves[0] + MARGIN, 1 - halves[0] - MARGIN
        centres = [(between(rng, low, high, freedom), between(rng, low, high, freedom))]
    elif len(set(names)) == 1:
        centres = place_in_cells(rng, halves, freedom)
    else:
        centres = place_pair(rng, halves, relation or pick(rng, RELATIONS), freedom)
    return tuple(
        SceneObject(shape, colour, size, (x - half, y - half, x + half, y + half))
        for (colour, shape), size, half, (x, y) in zip(names, sizes, halves, centres, strict=True)
    )


def place_in_cells(rng: np.random.Generator, halves: Sequence[float], freedom: float) -> list[tuple[float, float]]:
    """Centres of two to four equal objects in different quarters of the picture."""
    centres = []
    for cell, half in zip(rng.permutation(4), halves, strict=False):
        slack = 0.25 - half - MARGIN
        x, y = (0.25 + 0.5 * quarter + between(rng, -slack, slack, freedom) for quarter in (cell % 2, cell // 2))
        centres.append((x, y))
    return centres


def place_pair(rng: np.random.Generator, halves: Sequence[float], relation: str, freedom: float) -> list[tuple[float, float]]:
    """Centres of two objects so that `relation` of the first to the second is the only one the picture shows."""
    near, far = (0, 1) if relation in ("left of", "above") else (1, 0)
    slack = 1 - 2 * MARGIN - MIN_GAP - 2 * halves[0] - 2 * halves[1]
    before, until = sorted(between(rng, 0, slack, freedom) for _ in range(2))
    along = [0.0, 0.0]
    along[near] = MARGIN + before + halves[near]
    along[far] = along[near] + halves[near] + MIN_GAP + (until - before) + halves[far]
    middle = between(rng, 0.35, 0.65, freedom)
    across = [middle + between(rng, -0.06, 0.06, freedom) for _ in halves]
    return [(a, c) if relation in ("left of", "right of") else (c, a) for a, c in zip(along, across, strict=True)]


def draw_scene(spec: SceneSpec, size_px: int) -> Image.Image:
    """Draws a scene as an RGB image of size_px x size_px, antialiased by 4x supersampling; any size shows the same scene."""
    side = size_px * SUPERSAMPLE
    image = Image.new("RGB", (side, side), BACKGROUNDS[spec.background])
    draw = ImageDraw.Draw(image)
    for shape in spec.objects:
        if spec.style == "outlined":
            draw_shape(draw, shape, OUTLINE, side, 1.0)
            draw_shape(draw, shape, COLOURS[shape.colour], side, 0.74 if shape.shape in ("star", "triangle") else 0.8)
        else:
            draw_shape(draw, shape, COLOURS[shape.colour], side, 1.0)
    return image.reduce(SUPERSAMPLE)


def draw_shape(draw: ImageDraw.ImageDraw, shape: SceneObject, colour: tuple[int, int, int], side: int, scale: float) -> None:
    """Fills one shape, shrunk by `scale` about its middle (a triangle about its centroid)."""
    x0, y0, x1, y1 = (edge * side for edge in shape.box)
    middle_x, middle_y = (x0 + x1) / 2, y0 + (y1 - y0) * (2 / 3 if shape.shape == "triangle" else 0.5)
    x0, x1 = (middle_x + (x - middle_x) * scale for x in (x0, x1))
    y0, y1 = (middle_y + (y - middle_y) * scale for y in (y0, y1))
    if shape.shape == "circle":
        draw.ellipse((x0, y0, x1, y1), fill=colour)
    else:
        draw.polygon([(x0 + px * (x1 - x0), y0 + py * (y1 - y0)) for px, py in POLYGONS[shape.shape]], fill=colour)
