"""Tries a detector on scenes composed of labelled pictures the user gives: nothing that ships with a package is ground truth for photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from imagewright.config.evaluation import BenchmarkFile
from imagewright.data.images import BadImage, DecodeLimits, decode_rgb
from imagewright.evaluation.benchmarks.context import SuiteContext
from imagewright.evaluation.benchmarks.geneval_prompts import CLASSES, COLOURS, RELATIONS, ObjectTruth, Wanted, known_class
from imagewright.evaluation.benchmarks.official import json_lines, read_pinned, wrong_row
from imagewright.evaluation.judges.objects import ObjectJudge, Seen, satisfies
from imagewright.evaluation.judges.trust import Trial, renamed, try_judge
from imagewright.evaluation.judges.verdicts import Pixels, Prompt
from imagewright.evaluation.results import JudgeCard

KEY: Final = "detector_trial"
MAX_PICTURES = 2000
SCENES_PER_KIND = 24
MAX_PICTURE_BYTES = 16 << 20
TASKS_OF_KIND = {"objects": ("single", "two"), "counting": ("counting",), "position": ("position",), "colours": ("colors", "color_attr")}
"""What is tried together -> the tasks that depend on it."""


@dataclass(frozen=True)
class Picture:
    """One labelled picture of one object; transparency lies over white."""

    pixels: Pixels
    name: str
    colour: str | None


@dataclass(frozen=True)
class Scene:
    """A composed image with what is in it and what a prompt would ask."""

    image: Pixels
    seen: tuple[Seen, ...]
    truth: ObjectTruth


def read_pictures(file: BenchmarkFile) -> list[Picture]:
    """Pictures of a pinned index: one JSON object a line with `image` (a name in the index's folder), `class` and, if known, `colour`.

    Raises BenchmarkError with the line for anything else.
    """
    found = []
    folder = Path(file.path).parent
    limits = DecodeLimits(max_bytes=MAX_PICTURE_BYTES)
    for number, row in json_lines(read_pinned(KEY, file), KEY):
        name, colour = row.get("image"), row.get("colour")
        if number > MAX_PICTURES or not isinstance(name, str) or Path(name).name != name or colour not in (None, *COLOURS):
            rule = f"needs `image` (a name in the same folder), `class` and perhaps `colour`, on at most {MAX_PICTURES} lines"
            raise wrong_row(KEY, number, rule, row)
        try:
            with (folder / name).open("rb") as opened:
                pixels = decode_rgb(opened.read(MAX_PICTURE_BYTES + 1), limits)
            found.append(Picture(pixels, known_class(str(row.get("class"))), colour))
        except (OSError, BadImage, ValueError) as error:
            raise wrong_row(KEY, number, f"cannot be used: {error}", row) from error
    return found


def object_cards(context: SuiteContext, judge: ObjectJudge, name: str, digest: str, pictures: Sequence[Picture]) -> dict[str, JudgeCard]:
    """One card for each kind of `TASKS_OF_KIND`, on scenes of the size that models paint."""
    side, rng = context.config.resolution_px, context.rng(KEY)
    return {kind: card_of(kind, context, judge, name, digest, compose(kind, pictures, side, rng)) for kind in TASKS_OF_KIND}


def card_of(kind: str, context: SuiteContext, judge: ObjectJudge, name: str, digest: str, scenes: Sequence[Scene]) -> JudgeCard:
    """The card of one kind; refused when there are no scenes to try it on."""
    title = f"{name}, {kind}"
    if len(scenes) < 2:
        reason = f"not tried: evaluation.{KEY} gives no pictures for it"
        return JudgeCard(name=title, digest=digest, num_images=0, ceiling=0.0, ceiling_through_vae=None, floors={}, refused=reason)
    rng = np.random.default_rng([context.seed, *kind.encode()])
    task = TASKS_OF_KIND[kind][0]
    prompts = [Prompt(f"trial-{kind}-{i}", task, "", (scene.truth, scene.seen)) for i, scene in enumerate(scenes)]
    changed = renamed(prompts, [(change_one(scene, rng), ()) for scene in scenes])

    def ask(image: Pixels, prompt: Prompt) -> float:
        return judge(image, replace(prompt, truth=prompt.truth[0]))

    def same(own: Prompt, other: Prompt) -> bool:
        return satisfies(own.truth[1], other.truth[0])

    images = np.stack([scene.image for scene in scenes])
    trial = Trial(list(zip(images, prompts, strict=True)), changed, same=same)
    return try_judge(title, digest, ask, trial, context.seed, list(context.through_vae(images)))


def compose(kind: str, pictures: Sequence[Picture], side: int, rng: np.random.Generator) -> list[Scene]:
    """Scenes of one kind; none when the pictures do not allow it."""
    usable = [picture for picture in pictures if picture.colour is not None] if kind == "colours" else list(pictures)
    if len({picture.name for picture in usable}) < 2:
        return []
    return [compose_one(kind, number, usable, side, rng) for number in range(SCENES_PER_KIND)]


def compose_one(kind: str, number: int, pictures: Sequence[Picture], side: int, rng: np.random.Generator) -> Scene:
    """One scene: one or two objects (in turn), two beside or above each other, or two to four of a class."""
    first = pictures[int(rng.integers(len(pictures)))]
    others = [picture for picture in pictures if picture.name != first.name]
    second = others[int(rng.integers(len(others)))]
    if kind == "counting":
        count = 2 + number % 3
        return lay_out([first] * count, side, ObjectTruth((Wanted(first.name, count),), ((first.name, count + 1),)))
    if kind == "position":
        relation = RELATIONS[number % 4]
        placed = [first, second] if relation in ("left of", "above") else [second, first]
        truth = ObjectTruth((Wanted(second.name), Wanted(first.name, relation=(relation, 0))))
        return lay_out(placed, side, truth, upright=relation in ("above", "below"))
    chosen = [first, second][: 1 + number % 2]
    coloured = kind == "colours"
    return lay_out(chosen, side, ObjectTruth(tuple(Wanted(item.name, 1, item.colour if coloured else None) for item in chosen)))


def lay_out(pictures: Sequence[Picture], side: int, truth: ObjectTruth, upright: bool = False) -> Scene:
    """Pictures on white [side, side, 3] in one row, one column (upright), or two rows when there are more than two."""
    columns = 1 if upright or len(pictures) == 1 else 2
    rows = -(-len(pictures) // columns)
    canvas = Image.new("RGB", (side, side), (255, 255, 255))
    seen = []
    for place, picture in enumerate(pictures):
        cell = (side // columns, side // rows)
        room = (max(1, int(cell[0] * 0.86)), max(1, int(cell[1] * 0.86)))
        resized = Image.fromarray(picture.pixels)
        scale = min(room[0] / resized.width, room[1] / resized.height)
        size = (max(1, round(resized.width * scale)), max(1, round(resized.height * scale)))
        left = (place % columns) * cell[0] + (cell[0] - size[0]) // 2
        top = (place // columns) * cell[1] + (cell[1] - size[1]) // 2
        canvas.paste(resized.resize(size, Image.Resampling.LANCZOS), (left, top))
        box = (left / side, top / side, (left + size[0]) / side, (top + size[1]) / side)
        seen.append(Seen(picture.name, box, picture.colour))
    return Scene(np.asarray(canvas), tuple(seen), truth)


def change_one(scene: Scene, rng: np.random.Generator) -> ObjectTruth:
    """What the scene's prompt asks with one thing different, and untrue of the scene: the count, the relation, a colour or a class."""
    truth, options = scene.truth, list(CLASSES)
    last = truth.include[-1]
    if truth.exclude:
        count = last.count + (1 if last.count == 2 or rng.random() < 0.5 else -1)
        return ObjectTruth((replace(last, count=count),), ((last.name, count + 1),))
    if last.relation is not None:
        opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}[last.relation[0]]
        return ObjectTruth((*truth.include[:-1], replace(last, relation=(opposite, last.relation[1]))))
    if last.colour is not None:
        colours = [colour for colour in COLOURS if colour != last.colour]
        return ObjectTruth((*truth.include[:-1], replace(last, colour=colours[int(rng.integers(len(colours)))])))
    names = [name for name in options if all(name != item.name for item in scene.seen)]
    return ObjectTruth((*truth.include[:-1], replace(last, name=names[int(rng.integers(len(names)))])))


def tried_tasks(cards: dict[str, JudgeCard]) -> dict[str, str]:
    """Task -> why its judge is refused, for those that are. Counting, position and colours need the objects themselves too."""
    refused: dict[str, str] = {}
    for kind, tasks in TASKS_OF_KIND.items():
        reason = cards[kind].refused or (cards["objects"].refused if kind != "objects" else "")
        refused |= dict.fromkeys(tasks, reason) if reason else {}
    return refused
