"""Draws scenes from their JSON spec for the judge's tests, independent of the product's own generator."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

COLOURS = {
    "red": (215, 35, 40),
    "yellow": (250, 225, 30),
    "green": (30, 160, 60),
    "blue": (25, 70, 225),
    "pink": (250, 130, 185),
    "cyan": (0, 210, 215),
}
BACKGROUNDS = {"white": (255, 255, 255), "grey": (205, 205, 205), "black": (16, 16, 20)}
SHAPES = ("circle", "square", "triangle", "star", "cross")


def corners(shape: str, x0: float, y0: float, x1: float, y1: float) -> list[tuple[float, float]]:
    """Polygon of a shape in its box."""
    star = [
        ((0.5 + math.sin(k * math.pi / 5) * (0.5 if k % 2 == 0 else 0.21)), 0.5 - math.cos(k * math.pi / 5) * (0.5 if k % 2 == 0 else 0.21))
        for k in range(10)
    ]
    a, b = 0.34, 0.66
    unit = {
        "square": [(0, 0), (1, 0), (1, 1), (0, 1)],
        "triangle": [(0.5, 0), (1, 1), (0, 1)],
        "star": star,
        "cross": [(a, 0), (b, 0), (b, a), (1, a), (1, b), (b, b), (b, 1), (a, 1), (a, b), (0, b), (0, a), (a, a)],
    }[shape]
    return [(x0 + x * (x1 - x0), y0 + y * (y1 - y0)) for x, y in unit]


def draw(scene: dict[str, Any], size: int = 32) -> NDArray[np.uint8]:
    """RGB image [size, size, 3] of a scene, antialiased."""
    side = size * 4
    image = Image.new("RGB", (side, side), BACKGROUNDS[scene["background"]])
    canvas = ImageDraw.Draw(image)
    for item in scene["objects"]:
        x0, y0, x1, y1 = (edge * side for edge in item["box"])
        if item["shape"] == "circle":
            canvas.ellipse((x0, y0, x1, y1), fill=COLOURS[item["colour"]])
        else:
            canvas.polygon(corners(item["shape"], x0, y0, x1, y1), fill=COLOURS[item["colour"]])
    return np.asarray(image.reduce(4))


def thing(shape: str, colour: str, x: float, y: float, half: float = 0.18) -> dict[str, Any]:
    """One object of a scene around a centre."""
    return {"shape": shape, "colour": colour, "size": "large", "box": [x - half, y - half, x + half, y + half]}


def scene(
    task: str, objects: list[dict[str, Any]], background: str = "white", relation: str | None = None, count: int | None = None
) -> dict[str, Any]:
    """A scene spec."""
    return {"background": background, "objects": objects, "relation": relation, "count": count, "style": "flat", "task": task}


def gallery() -> list[str]:
    """Scene JSON of every task over shapes, colours and backgrounds."""
    scenes = []
    colours = itertools.cycle(COLOURS)
    for background, (first, second) in itertools.product(BACKGROUNDS, itertools.permutations(SHAPES, 2)):
        one, two = next(colours), next(colours)
        scenes.append(scene("colors", [thing(first, one, 0.45, 0.5, 0.3)], background))
        pair = [thing(first, one, 0.26, 0.5), thing(second, two, 0.74, 0.5)]
        scenes.append(scene("position", pair, background, relation="left of"))
        scenes.append(scene("two", [thing(first, one, 0.5, 0.25), thing(second, two, 0.5, 0.75)], background))
        scenes.append(scene("color_attr", pair, background))
        places = [(0.26, 0.26), (0.74, 0.26), (0.26, 0.74), (0.74, 0.74)][: 2 + len(scenes) % 3]
        scenes.append(scene("counting", [thing(first, one, x, y) for x, y in places], background, count=len(places)))
    return [json.dumps(item) for item in scenes]
