"""What the scene judge says of images whose truth is known."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import numpy as np
import pytest
from scene_drawing import SHAPES, draw, gallery, scene, thing
from scipy import ndimage

import imagewright.evaluation.scene_judge as judge_module
from imagewright.evaluation.scene_judge import ScenePrompt, SceneSpecError, holds, judge, objects_of_scene, prompt_from_scene, read_scene
from imagewright.sources.scene_captions import prompt_of
from imagewright.sources.scene_spec import Task
from imagewright.sources.scenes import compose_scene


def test_every_ground_truth_scene_is_called_right() -> None:
    wrong = [text for text in gallery() if not judge(draw(json.loads(text)), prompt_from_scene(text))]
    assert wrong == []


def test_blur_and_colour_noise_of_a_decoder_are_tolerated() -> None:
    rng = np.random.default_rng(0)
    scenes = gallery()
    right = 0
    for text in scenes:
        soft = ndimage.gaussian_filter(draw(json.loads(text)).astype(float), (0.6, 0.6, 0)) + rng.normal(0, 10, (32, 32, 3))
        right += judge(soft.clip(0, 255).astype(np.uint8), prompt_from_scene(text))
    assert right / len(scenes) >= 0.95


@pytest.mark.parametrize("shape", SHAPES)
def test_objects_come_back_with_shape_colour_and_box(shape: str) -> None:
    (found,) = read_scene(draw(scene("single", [thing(shape, "blue", 0.4, 0.6, 0.25)]), size=64))
    assert (found.shape, found.colour) == (shape, "blue")
    assert found.box == pytest.approx((0.15, 0.35, 0.65, 0.85), abs=0.05)


def test_wrong_colour_wrong_shape_and_wrong_side_are_called_wrong() -> None:
    image = draw(scene("position", [thing("circle", "red", 0.25, 0.5), thing("star", "blue", 0.75, 0.5)], relation="left of"))
    said = (("circle", "red"), ("star", "blue"))
    assert judge(image, ScenePrompt("position", said, "left of"))
    assert not judge(image, ScenePrompt("position", said, "right of"))
    assert not judge(image, ScenePrompt("position", said, "above"))
    assert not judge(image, ScenePrompt("color_attr", (("circle", "blue"), ("star", "red"))))
    assert not judge(image, ScenePrompt("two", (("circle", None), ("square", None))))


def test_one_object_cannot_stand_for_two() -> None:
    image = draw(scene("single", [thing("circle", "red", 0.5, 0.5, 0.3)]))
    assert not judge(image, ScenePrompt("two", (("circle", None), ("circle", None))))


@pytest.mark.parametrize(("asked", "right"), [(2, False), (3, True), (4, False)])
def test_counting_wants_the_exact_number(asked: int, right: bool) -> None:
    image = draw(scene("counting", [thing("cross", "green", x, y) for x, y in ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75))]))
    assert judge(image, ScenePrompt("counting", (("cross", "green"),), count=asked)) is right


def test_relation_needs_just_the_minimum_offset() -> None:
    first, (at,), (below,) = (
        objects_of_scene(scene("single", [thing("circle", "red", x, 0.5)]))
        for x in (0.3, 0.3 + judge_module.MIN_OFFSET + 1e-6, 0.3 + judge_module.MIN_OFFSET - 1e-6)
    )
    assert holds("left of", first[0], at)
    assert not holds("left of", first[0], below)


@pytest.mark.parametrize("fill", [0, 128, 255])
def test_blank_image_shows_nothing(fill: int) -> None:
    assert read_scene(np.full((32, 32, 3), fill, dtype=np.uint8)) == ()


def test_noise_has_no_shape_name() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert {item.shape for item in read_scene(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))} <= {"unknown"}


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"task": "single", "objects": [{"shape": "blob", "colour": "red"}]}', '{"task": "single", "objects": []}']
)
def test_malformed_scene_is_refused(text: str) -> None:
    with pytest.raises(SceneSpecError, match="scene"):
        prompt_from_scene(text)


def test_image_that_is_not_rgb_bytes_is_refused() -> None:
    with pytest.raises(SceneSpecError, match="uint8"):
        read_scene(np.zeros((32, 32), dtype=np.uint8))


def test_judge_shares_nothing_with_the_generator() -> None:
    for path in Path(judge_module.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in getattr(node, "names", [])]
            assert path.stem in ("suites",) or not any(name.startswith("imagewright.sources") for name in names), path.name


@pytest.mark.parametrize("task", ["single", "two", "counting", "colors", "position", "color_attr"])
def test_a_prompt_is_judged_only_on_colours_it_names(task: Task) -> None:
    spec = compose_scene(np.random.default_rng(3), task)
    words = prompt_of(spec).split()
    for _, colour in prompt_from_scene(spec.to_json()).objects:
        assert colour is None or colour in words
    drawn = {item.colour for item in spec.objects}
    named = {colour for _, colour in prompt_from_scene(spec.to_json()).objects if colour}
    assert named == drawn & set(words)
