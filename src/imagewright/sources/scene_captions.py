"""Captions of composed scenes in five forms, several phrasings each, English and Chinese; every one is true of the picture."""

from __future__ import annotations

import numpy as np

from imagewright.data.manifest import Caption
from imagewright.sources.scene_spec import SceneObject, SceneSpec

NUMBERS = ("zero", "one", "two", "three", "four")
PLURALS = {"cross": "crosses"}
STYLE_WORDS = {"flat": "flat colours", "outlined": "dark outlines", "dark": "bright colours"}

# Tasks whose short captions and prompts leave the colours free.
COLOURLESS = ("single", "two", "counting")

SHORT = ("{what}", "{what}.", "a picture of {what}", "an image of {what}")
MEDIUM = ("{what} on a {background} background", "a simple picture of {what}, {background} background", "{what} drawn with {style}")
LONG = (
    "A simple picture drawn with {style}: {what} on a {background} background.",
    "On a {background} background there is {what}, drawn with {style}.",
    "This picture shows {what}. The background is {background} and the style is {style}.",
)
USER = ("draw {what}", "please make {what}", "I want {what}", "{what} please")

ZH_COLOURS = {
    "red": "红色", "orange": "橙色", "yellow": "黄色", "green": "绿色", "cyan": "青色", "blue": "蓝色",
    "purple": "紫色", "pink": "粉色", "white": "白色", "grey": "灰色", "black": "黑色",
}  # fmt: skip
ZH_SHAPES = {"circle": "圆形", "square": "正方形", "triangle": "三角形", "star": "五角星", "cross": "十字"}
ZH_NUMBERS = ("零", "一", "两", "三", "四")
ZH_RELATIONS = {"left of": "左边", "right of": "右边", "above": "上方", "below": "下方"}
ZH_STYLES = {"flat": "平涂", "outlined": "描边", "dark": "亮色"}


def captions_of(spec: SceneSpec, rng: np.random.Generator, languages: tuple[str, ...] = ("en", "zh")) -> tuple[Caption, ...]:
    """Five English captions (long, medium, short, tags, user) and two Chinese ones (long, short) of a scene."""
    captions: list[Caption] = []
    if "en" in languages:
        plain = describe(spec, with_colours=spec.task not in COLOURLESS)
        full = describe(spec, with_colours=True)
        words = {"background": spec.background, "style": STYLE_WORDS[spec.style]}
        for form, templates, what in (("long", LONG, full), ("medium", MEDIUM, full), ("short", SHORT, plain), ("user", USER, plain)):
            template = templates[int(rng.integers(len(templates)))]
            captions.append(Caption(form, "en", template.format(what=what, **words)))
        captions.insert(3, Caption("tags", "en", tags_of(spec)))
    if "zh" in languages:
        what = describe_zh(spec)
        captions.append(Caption("long", "zh", f"一幅{ZH_STYLES[spec.style]}的简单图画，{ZH_COLOURS[spec.background]}背景上有{what}。"))
        captions.append(Caption("short", "zh", what))
    return tuple(captions)


def prompt_of(spec: SceneSpec) -> str:
    """The plain English prompt of a scene, one fixed phrasing: what evaluation asks a model for."""
    return describe(spec, with_colours=spec.task not in COLOURLESS)


def describe(spec: SceneSpec, *, with_colours: bool) -> str:
    """English noun phrase: "two red stars", "a red circle left of a blue square", "a circle and a star"."""
    first = spec.objects[0]
    if spec.count is not None and spec.count > 1:
        return f"{NUMBERS[spec.count]} {name_of(first, with_colours)[: -len(first.shape)]}{PLURALS.get(first.shape, first.shape + 's')}"
    if spec.count == 1:
        return f"one {name_of(first, with_colours)}"
    if len(spec.objects) == 1:
        return with_article(name_of(first, with_colours))
    second = spec.objects[1]
    link = spec.relation or "and"
    return f"{with_article(name_of(first, with_colours))} {link} {with_article(name_of(second, with_colours))}"


def name_of(shape: SceneObject, with_colours: bool) -> str:
    """ "red circle" or "circle"."""
    return f"{shape.colour} {shape.shape}" if with_colours else shape.shape


def with_article(phrase: str) -> str:
    """ "a red circle", "an orange star"."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def describe_zh(spec: SceneSpec) -> str:
    """Chinese noun phrase with colours."""
    names = [f"{ZH_COLOURS[shape.colour]}的{ZH_SHAPES[shape.shape]}" for shape in spec.objects]
    if spec.count is not None:
        return f"{ZH_NUMBERS[spec.count] if spec.count > 1 else '一'}个{names[0]}"
    if len(names) == 1:
        return f"一个{names[0]}"
    if spec.relation:
        return f"一个{names[0]}在一个{names[1]}的{ZH_RELATIONS[spec.relation]}"
    return f"一个{names[0]}和一个{names[1]}"


def tags_of(spec: SceneSpec) -> str:
    """Comma-separated tags."""
    tags: list[str] = []
    for shape in spec.objects:
        tags += [tag for tag in (shape.colour, shape.shape) if tag not in tags]
    if spec.count is not None:
        tags.append(NUMBERS[spec.count])
    if spec.relation:
        tags.append(spec.relation)
    return ", ".join([*tags, f"{spec.background} background", spec.style])
