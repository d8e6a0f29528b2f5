"""Reads an image of a composed scene back into objects and decides whether everything its prompt says is true.

Segmentation by distance from the background, colour from each object's core, shape by its coverage against templates:
edges and colours may be off by what a decoder or a generator does to them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from imagewright.errors import InputError, Problem
from imagewright.evaluation.palette import COLOURS, SHAPES, TEMPLATE_PX, UNKNOWN, nearest_colour, shape_templates

TASKS = ("single", "two", "counting", "colors", "position", "color_attr")
COLOURED_TASKS = ("colors", "position", "color_attr")
"""Tasks whose prompts name colours; the others leave them free, as GenEval does."""
RELATIONS = ("left of", "right of", "above", "below")
MIN_CONTRAST = 48.0
"""RGB distance from the background at which a pixel may belong to an object."""
MIN_AREA = 0.012
"""Smallest object as a share of the image; below are specks."""
MAX_SHAPE_ERROR = 0.10
"""Mean squared coverage error beyond which a blob has no shape name."""
MAX_CORE_SPREAD = 60.0
"""Median RGB distance of core pixels from their median beyond which a blob is noise, not an object."""
CORE_DEPTH = 0.6
"""The colour is read where the depth is at least this share of the deepest point: away from edges and outlines."""
MIN_OFFSET = 0.06
"""Share of the image by which centres must differ to stand left, right, above or below."""

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SceneObject:
    """One object found in an image. box is x0, y0, x1, y1 in 0..1."""

    shape: str
    colour: str
    box: tuple[float, float, float, float]
    shape_error: float = 0.0

    @property
    def centre(self) -> tuple[float, float]:
        """Middle of the box: x, y in 0..1."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


@dataclass(frozen=True)
class ScenePrompt:
    """What a prompt says: objects as (shape, colour or None), a relation of the first to the second, an exact count."""

    task: str
    objects: tuple[tuple[str, str | None], ...]
    relation: str | None = None
    count: int | None = None


class SceneSpecError(InputError):
    """A scene description the judge cannot use."""


def prompt_from_scene(spec: str | dict[str, Any]) -> ScenePrompt:
    """What the prompt of a ground-truth scene (JSON text or tree) says: colours are named in COLOURED_TASKS only.

    Raises SceneSpecError when the spec is malformed or uses a word that the judge does not know.
    """
    try:
        tree: dict[str, Any] = json.loads(spec) if isinstance(spec, str) else spec
        task, relation, count = str(tree["task"]), tree.get("relation"), tree.get("count")
        objects = tuple((str(item["shape"]), str(item["colour"])) for item in tree["objects"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SceneSpecError(Problem("scene", f"is not a scene: {error!r}", spec, "give the manifest's scene column")) from error
    named: tuple[tuple[str, str | None], ...] = tuple((shape, colour if task in COLOURED_TASKS else None) for shape, colour in objects)
    prompt = ScenePrompt(task, named[:1] if count is not None else named, relation, count)
    check_prompt(prompt)
    return prompt


def objects_of_scene(spec: str | dict[str, Any]) -> tuple[SceneObject, ...]:
    """The objects that a ground-truth scene (JSON text or tree) was drawn from. Raises SceneSpecError when it is malformed."""
    try:
        tree: dict[str, Any] = json.loads(spec) if isinstance(spec, str) else spec
        return tuple(SceneObject(str(o["shape"]), str(o["colour"]), box_of(o["box"])) for o in tree["objects"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SceneSpecError(Problem("scene", f"is not a scene: {error!r}", spec, "give the manifest's scene column")) from error


def box_of(edges: Sequence[float]) -> tuple[float, float, float, float]:
    """Four edges as floats."""
    x0, y0, x1, y1 = map(float, edges)
    return x0, y0, x1, y1


def check_prompt(prompt: ScenePrompt) -> None:
    """Raises SceneSpecError for an unknown task, shape, colour, relation or an impossible combination."""
    known_colours = set(COLOURS)
    words_known = all(shape in SHAPES and (colour is None or colour in known_colours) for shape, colour in prompt.objects)
    relation_fits = prompt.relation is None or (prompt.relation in RELATIONS and len(prompt.objects) == 2)
    if prompt.task not in TASKS or not prompt.objects or not words_known or not relation_fits:
        fix = f"tasks {TASKS}, shapes {SHAPES}, colours {tuple(COLOURS)}, relations {RELATIONS} between two objects"
        raise SceneSpecError(Problem("scene", "must use words the judge knows", str(prompt), fix))


def judge(image: Pixels, prompt: ScenePrompt) -> bool:
    """True when everything the prompt says is true of the image [H, W, 3]. Further objects are allowed, except when counting."""
    return says_true(read_scene(image), prompt)


def says_true(objects: Sequence[SceneObject], prompt: ScenePrompt) -> bool:
    """True when the objects satisfy the prompt; each named object needs one of its own."""
    if prompt.count is not None:
        shape, colour = prompt.objects[0]
        return sum(matches(found, shape, colour) for found in objects) == prompt.count == sum(found.shape == shape for found in objects)
    for chosen in permutations(objects, len(prompt.objects)):
        named = all(matches(found, shape, colour) for found, (shape, colour) in zip(chosen, prompt.objects, strict=True))
        if named and (prompt.relation is None or holds(prompt.relation, chosen[0], chosen[1])):
            return True
    return False


def matches(found: SceneObject, shape: str, colour: str | None) -> bool:
    """True when an object has the shape and, if named, the colour."""
    return found.shape == shape and colour in (None, found.colour)


def holds(relation: str, first: SceneObject, second: SceneObject) -> bool:
    """True when `first` stands in `relation` to `second`: centres apart by MIN_OFFSET along that axis."""
    across, down = second.centre[0] - first.centre[0], second.centre[1] - first.centre[1]
    offset = {"left of": across, "right of": -across, "above": down, "below": -down}[relation]
    return bool(offset > MIN_OFFSET)


def read_scene(image: Pixels) -> tuple[SceneObject, ...]:
    """Objects of an image [H, W, 3] uint8, from left to right. A blank or noisy image has none with a shape name."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise SceneSpecError(Problem("image", "must be uint8 [H, W, 3]", f"{image.dtype} {image.shape}", "convert to RGB"))
    pixels = image.astype(np.float32)
    border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    background = np.median(border, axis=0)
    distance: NDArray[np.float32] = np.linalg.norm(pixels - background, axis=2)
    found = []
    for mask in blobs(distance > MIN_CONTRAST):
        core_colour, _ = colour_of_core(pixels, mask)
        contrast = max(float(np.linalg.norm(core_colour - background)), MIN_CONTRAST)
        coverage = np.clip(distance / contrast, 0, 1)
        for part in blobs(mask & (coverage > 0.5)):
            found.append(describe(pixels, background, distance, part))
    return tuple(sorted(found, key=lambda item: item.centre))


def blobs(mask: Mask) -> list[Mask]:
    """Connected parts of a mask that are larger than specks."""
    labels, count = ndimage.label(mask)
    if not count:
        return []
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    return [labels == index for index in range(1, count + 1) if areas[index] >= MIN_AREA * mask.size]


def colour_of_core(pixels: NDArray[np.float32], mask: Mask) -> tuple[NDArray[np.float32], float]:
    """Median colour [3] of the innermost pixels of a blob, and their median distance from it."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    core = depth >= CORE_DEPTH * depth.max()
    colour = np.asarray(np.median(pixels[core], axis=0), dtype=np.float32)
    return colour, float(np.median(np.linalg.norm(pixels[core] - colour, axis=1)))


def describe(pixels: NDArray[np.float32], background: NDArray[np.float32], distance: NDArray[np.float32], mask: Mask) -> SceneObject:
    """Names one blob: colour of its core, shape by coverage, box with sub-pixel edges."""
    height, width = mask.shape
    core_colour, spread = colour_of_core(pixels, mask)
    contrast = max(float(np.linalg.norm(core_colour - background)), MIN_CONTRAST)
    near = ndimage.binary_dilation(mask)
    coverage = np.where(near, np.clip(distance / contrast, 0, 1), 0).astype(np.float32)
    coverage = np.where(ndimage.binary_fill_holes(mask) & ~ndimage.binary_dilation(~near), np.maximum(coverage, mask), coverage)
    left, right = edges(coverage.max(axis=0))
    top, bottom = edges(coverage.max(axis=1))
    crop = Image.fromarray(coverage).resize((TEMPLATE_PX, TEMPLATE_PX), Image.Resampling.BOX, box=(left, top, right, bottom))
    errors = np.square(shape_templates() - np.asarray(crop)).mean(axis=(2, 3)).min(axis=1)
    best = int(errors.argmin())
    shape = SHAPES[best] if errors[best] <= MAX_SHAPE_ERROR and spread <= MAX_CORE_SPREAD else UNKNOWN
    box = (left / width, top / height, right / width, bottom / height)
    return SceneObject(shape, nearest_colour(core_colour), box, float(errors[best]))


def edges(profile: NDArray[np.float32]) -> tuple[float, float]:
    """First and last position at which a coverage profile [n] crosses one half, in pixels, between pixels where it does."""
    inside = np.flatnonzero(profile >= 0.5)
    first, last = int(inside[0]), int(inside[-1])
    before = float(profile[first - 1]) if first else 0.0
    after = float(profile[last + 1]) if last + 1 < len(profile) else 0.0
    return first - min(before, 0.5) + (1 - float(profile[first])), last + 1 + min(after, 0.5) - (1 - float(profile[last]))
