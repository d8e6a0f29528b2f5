"""Measures a judge before its verdicts count: ceiling on ground truth, floors on wrong prompts and empty images, confusion.

A judge below 0.95 true positives or above 0.05 false positives is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from imagewright.errors import InputError, Problem
from imagewright.evaluation.palette import COLOURS, SHAPES
from imagewright.evaluation.scene_judge import (
    RELATIONS,
    Pixels,
    SceneObject,
    ScenePrompt,
    objects_of_scene,
    prompt_from_scene,
    read_scene,
    says_true,
)

MIN_TRUE_POSITIVE = 0.95
MAX_FALSE_POSITIVE = 0.05

Reader = Callable[[Pixels], Sequence[SceneObject]]


@dataclass(frozen=True)
class Calibration:
    """What a judge says where the truth is known; every rate in 0..1."""

    num_images: int
    ceiling: float
    """Ground-truth images with their own prompts."""
    ceiling_by_task: dict[str, float]
    floors: dict[str, float]
    """False positives: prompts shuffled, one attribute changed, blank images, noise images."""
    confusion: dict[str, dict[str, dict[str, int]]]
    """Attribute -> true name -> read name -> number of objects."""

    @property
    def worst_floor(self) -> float:
        """The highest of the false positive rates."""
        return max(self.floors.values())


class JudgeRefusedError(InputError):
    """A judge whose verdicts would not mean anything."""


def calibrate(images: Sequence[Pixels], scenes: Sequence[str], seed: int = 0, read: Reader = read_scene) -> Calibration:
    """Calibrates a reader on ground-truth images [H, W, 3] and their scene JSON. Deterministic for a seed."""
    assert len(images) == len(scenes) > 1, "calibration needs at least two images with their scenes"
    rng = np.random.default_rng(seed)
    prompts = [prompt_from_scene(scene) for scene in scenes]
    truths = [objects_of_scene(scene) for scene in scenes]
    readings = [read(image) for image in images]
    right = [says_true(reading, prompt) for reading, prompt in zip(readings, prompts, strict=True)]
    tasks = sorted({prompt.task for prompt in prompts})
    by_task = {task: rate([hit for hit, prompt in zip(right, prompts, strict=True) if prompt.task == task]) for task in tasks}
    empty = [read(image) for image in blank_images(images[0].shape)]
    noise = [read(image) for image in noise_images(images[0].shape, rng)]
    floors = {
        "shuffled": false_positives(readings, truths, [prompts[i] for i in rng.permutation(len(prompts))]),
        "attribute changed": false_positives(readings, truths, [change_one_attribute(prompt, rng) for prompt in prompts]),
        "blank": rate([says_true(reading, prompt) for reading in empty for prompt in prompts]),
        "noise": rate([says_true(reading, prompt) for reading in noise for prompt in prompts]),
    }
    return Calibration(len(images), rate(right), by_task, floors, confusion_of(truths, readings))


def require_trustworthy(calibration: Calibration) -> None:
    """Raises JudgeRefusedError unless the ceiling is >= 0.95 and every floor <= 0.05."""
    problems = []
    if calibration.ceiling < MIN_TRUE_POSITIVE:
        rule = f"must call at least {MIN_TRUE_POSITIVE} of the ground-truth images right"
        problems.append(Problem("judge.ceiling", rule, round(calibration.ceiling, 4), "draw larger objects or mend the judge"))
    for name, value in calibration.floors.items():
        if value > MAX_FALSE_POSITIVE:
            rule = f"must call at most {MAX_FALSE_POSITIVE} of wrong images right ({name})"
            problems.append(Problem("judge.floor", rule, round(value, 4), "mend the judge before its scores are used"))
    if problems:
        raise JudgeRefusedError(problems)


def rate(verdicts: Sequence[bool]) -> float:
    """Share of true verdicts; 0 of none."""
    return float(np.mean(verdicts)) if verdicts else 0.0


def false_positives(
    readings: Sequence[Sequence[SceneObject]], truths: Sequence[Sequence[SceneObject]], prompts: Sequence[ScenePrompt]
) -> float:
    """Share of prompts called true although the ground truth says false; prompts that happen to be true are left out."""
    wrong = [(reading, prompt) for reading, truth, prompt in zip(readings, truths, prompts, strict=True) if not says_true(truth, prompt)]
    return rate([says_true(reading, prompt) for reading, prompt in wrong])


def change_one_attribute(prompt: ScenePrompt, rng: np.random.Generator) -> ScenePrompt:
    """The same prompt with exactly one thing different: a shape, a named colour, the relation or the count."""
    kinds = ["shape"] + ["colour"] * (prompt.objects[0][1] is not None) + ["relation"] * (prompt.relation is not None)
    kinds += ["count"] * (prompt.count is not None)
    kind = kinds[int(rng.integers(len(kinds)))]
    if kind == "relation":
        return replace(prompt, relation=other(RELATIONS, prompt.relation, rng))
    if kind == "count":
        assert prompt.count is not None
        return replace(prompt, count=prompt.count + (1 if prompt.count == 1 or rng.random() < 0.5 else -1))
    index = int(rng.integers(len(prompt.objects)))
    shape, colour = prompt.objects[index]
    changed = (other(SHAPES, shape, rng), colour) if kind == "shape" else (shape, other(tuple(COLOURS), colour, rng))
    return replace(prompt, objects=(*prompt.objects[:index], changed, *prompt.objects[index + 1 :]))


def other(options: Sequence[str], current: str | None, rng: np.random.Generator) -> str:
    """A uniform choice among the options that differ from the current one."""
    rest = [option for option in options if option != current]
    return rest[int(rng.integers(len(rest)))]


def blank_images(shape: tuple[int, ...]) -> list[Pixels]:
    """Uniform images in greys and in every colour of the palette."""
    fills = [(0, 0, 0), (128, 128, 128), (255, 255, 255), *COLOURS.values()]
    return [np.broadcast_to(np.array(fill, dtype=np.uint8), shape).copy() for fill in fills]


def noise_images(shape: tuple[int, ...], rng: np.random.Generator, count: int = 32) -> list[Pixels]:
    """Uniform white noise, and the same noise smoothed over 4x4 blocks: what untrained models paint."""
    height, width = shape[:2]
    fine = rng.integers(0, 256, (count // 2, height, width, 3), dtype=np.uint8)
    coarse = rng.integers(0, 256, (count // 2, -(-height // 4), -(-width // 4), 3), dtype=np.uint8)
    blocks = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, :height, :width]
    return [*fine, *blocks]


def confusion_of(
    truths: Sequence[Sequence[SceneObject]], readings: Sequence[Sequence[SceneObject]]
) -> dict[str, dict[str, dict[str, int]]]:
    """True against read names of shape and colour; a true object is read as the found one with the nearest centre, or as missing."""
    pairs: dict[str, Counter[tuple[str, str]]] = {"shape": Counter(), "colour": Counter()}
    for truth, reading in zip(truths, readings, strict=True):
        for item in truth:
            near = min(reading, key=lambda found: distance(found, item), default=None)
            hit = near if near is not None and distance(near, item) < 0.15 else None
            pairs["shape"][item.shape, hit.shape if hit else "missing"] += 1
            pairs["colour"][item.colour, hit.colour if hit else "missing"] += 1
    return {
        attribute: {true: {read: n for (t, read), n in sorted(counts.items()) if t == true} for true in sorted({t for t, _ in counts})}
        for attribute, counts in pairs.items()
    }


def distance(first: SceneObject, second: SceneObject) -> float:
    """Distance of two centres as a share of the image side."""
    return float(np.hypot(first.centre[0] - second.centre[0], first.centre[1] - second.centre[1]))
