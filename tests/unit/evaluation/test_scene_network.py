"""The learned judge: what it is told of a scene, that telling order does not matter, and that it learns from pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fixtures.curated_scenes import write_curated

from imagewright.data.pixels import PixelSet, load_pixels
from imagewright.evaluation.scene_judge import SceneObject, ScenePrompt, objects_of_scene, prompt_from_scene
from imagewright.evaluation.scene_network import NAMES, relation_index, targets_of, train_network, truths

RED, BLUE = SceneObject("circle", "red", (0.1, 0.1, 0.3, 0.3)), SceneObject("square", "blue", (0.6, 0.1, 0.9, 0.3))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> PixelSet:
    curated = write_curated(tmp_path_factory.mktemp("curated"), 240, holdout=0.0, validation=0.0)
    return load_pixels(curated, side_px=32, splits=("train",), limit=240, seed=0, only_scenes=True)


def test_a_relation_is_the_same_from_whichever_object_it_is_told() -> None:
    first, second = ("circle", "red"), ("square", "blue")
    assert relation_index(first, second, "left of") == relation_index(second, first, "right of") != 0
    assert relation_index(first, second, "above") == relation_index(second, first, "below") != 0
    assert relation_index(first, second, None) == 0


def test_the_network_is_told_shapes_coloured_shapes_their_number_and_relation() -> None:
    said = ScenePrompt("position", (("circle", "red"), ("square", "blue")), "left of")
    truth = targets_of([((RED, BLUE), said)])
    assert truth["shape"].sum() == truth["name"].sum() == 2
    assert truth["name"][0, NAMES.index(("circle", "red"))] == 1
    assert truth["count"].tolist() == [2]
    assert truth["relation"].tolist() == [relation_index(("circle", "red"), ("square", "blue"), "left of")]


def test_it_learns_what_a_scene_holds_and_the_same_seed_gives_the_same_judge(scenes: PixelSet) -> None:
    told = [(objects_of_scene(row.scene), prompt_from_scene(row.scene)) for row in scenes.rows]
    network = train_network(scenes.images, told, steps=24, seed=0)
    own = [said for _, said in told]
    other = [*own[1:], own[0]]
    mine, theirs = np.array(truths(network, scenes.images, own)), np.array(truths(network, scenes.images, other))
    differ = np.array([first.objects != second.objects for first, second in zip(own, other, strict=True)])
    assert (mine > theirs)[differ].mean() > 0.6
    assert bool(np.isfinite(mine).all())
    short = [train_network(scenes.images, told, steps=2, seed=1).heads.weight for _ in range(2)]
    assert torch.equal(*short)
