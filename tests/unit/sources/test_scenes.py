"""Composed scenes: the picture shows its ground truth, and held-out combinations never reach training."""

from __future__ import annotations

import io
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from imagewright.config.data import ScenesConfig
from imagewright.sources.samples import RawSample
from imagewright.sources.scene_captions import prompt_of
from imagewright.sources.scene_spec import (
    COLOURS,
    HELD_OUT_COLOUR_SHAPES,
    HELD_OUT_COUNTS,
    HELD_OUT_RELATIONS,
    SHAPES,
    SceneSpec,
    combinations_of,
    is_held_out,
    relations_between,
    scene_from_json,
)
from imagewright.sources.scenes import compose_scene, draw_scene, scene_sample, scene_samples


@pytest.fixture(scope="module")
def samples() -> list[RawSample]:
    return list(scene_samples(ScenesConfig(num_samples=3000, holdout_fraction=0.2), seed=7))


def specs(samples: list[RawSample], split: str) -> list[SceneSpec]:
    return [scene_from_json(sample.scene) for sample in samples if sample.split == split]


def test_no_training_or_validation_scene_shows_a_held_out_combination(samples: list[RawSample]) -> None:
    assert not any(is_held_out(spec) for split in ("train", "validation") for spec in specs(samples, split))


def test_every_holdout_scene_shows_a_held_out_combination_of_every_kind(samples: list[RawSample]) -> None:
    held_out = specs(samples, "holdout_compositional")
    assert held_out and all(is_held_out(spec) for spec in held_out)
    shown = {combination for spec in held_out for combination in combinations_of(spec)}
    assert shown >= HELD_OUT_COLOUR_SHAPES | HELD_OUT_RELATIONS | HELD_OUT_COUNTS


def test_every_word_of_the_holdout_is_seen_in_training(samples: list[RawSample]) -> None:
    words: dict[str, set[str]] = {"train": set(), "holdout_compositional": set(), "validation": set()}
    for sample in samples:
        english = [caption.text for caption in sample.captions if caption.language == "en"]
        words[sample.split].update(word.strip(".,") for text in english for word in text.split())
    assert words["holdout_compositional"] <= words["train"]
    assert words["train"] >= set(SHAPES) | set(COLOURS)


def test_captions_never_name_a_held_out_combination_in_training(samples: list[RawSample]) -> None:
    for sample in samples:
        if sample.split == "train":
            text = " ".join(caption.text for caption in sample.captions)
            assert not any(f"{colour} {shape}" in text for colour, shape in HELD_OUT_COLOUR_SHAPES), text


def test_the_same_seed_gives_the_same_bytes_in_any_order(samples: list[RawSample]) -> None:
    section = ScenesConfig(num_samples=3000, holdout_fraction=0.2)
    assert [scene_sample(section, 7, i) for i in (5, 3)] == [samples[5], samples[3]]
    assert scene_sample(section, 8, 5).image != samples[5].image


def test_each_object_is_painted_in_its_colour_inside_its_box(samples: list[RawSample]) -> None:
    for sample in islice(samples, 300):
        spec = scene_from_json(sample.scene)
        pixels = np.asarray(draw_scene(spec, 64), dtype=int)
        for shape in spec.objects:
            x, y = shape.centre
            if shape.shape == "triangle":
                y = shape.box[1] + (shape.box[3] - shape.box[1]) * 0.66
            assert np.abs(pixels[int(y * 64), int(x * 64)] - COLOURS[shape.colour]).max() <= 3, spec


def test_a_relation_is_the_only_one_the_picture_shows(samples: list[RawSample]) -> None:
    positions = [spec for split in ("train", "holdout_compositional") for spec in specs(samples, split) if spec.task == "position"]
    assert positions
    for spec in positions:
        assert relations_between(*spec.objects) == [spec.relation]


def test_counts_and_boxes_are_exact(samples: list[RawSample]) -> None:
    for spec in specs(samples, "train"):
        assert spec.count is None or spec.count == len(spec.objects)
        assert all(0 <= edge <= 1 for shape in spec.objects for edge in shape.box)


def test_ground_truth_survives_json(samples: list[RawSample]) -> None:
    assert all(scene_from_json(s.scene).to_json() == s.scene for s in islice(samples, 50))
    with pytest.raises(ValueError, match="not a scene"):
        scene_from_json('{"objects": [{}]}')


def test_prompts_read_like_english() -> None:
    rng = np.random.default_rng(0)
    prompts = {task: prompt_of(compose_scene(rng, task)) for task in ("single", "two", "counting", "colors", "position", "color_attr")}
    assert prompts["two"].count(" and ") == 1
    assert not any(colour in prompts["two"] for colour in COLOURS)
    assert any(relation in prompts["position"] for relation in ("left of", "right of", "above", "below"))


def test_the_png_has_the_size_asked_for() -> None:
    sample = scene_sample(ScenesConfig(size_px=48), 0, 0)
    assert Image.open(io.BytesIO(sample.image)).size == (48, 48) == (sample.width, sample.height)


def test_less_layout_freedom_pulls_objects_to_the_middle_of_their_room() -> None:
    def spread(freedom: float) -> float:
        section = ScenesConfig(num_samples=60, tasks=("single",), holdout_fraction=0, layout_freedom=freedom)
        places = [scene_from_json(sample.scene).objects[0].centre for sample in scene_samples(section, 3)]
        return float(np.abs(np.array(places) - 0.5).max())

    assert spread(0) < 1e-9
    assert 0 < spread(0.25) < spread(1) / 2


def test_without_layout_freedom_every_scene_still_shows_its_truth() -> None:
    section = ScenesConfig(num_samples=600, holdout_fraction=0.2, layout_freedom=0)
    for spec in map(scene_from_json, (sample.scene for sample in scene_samples(section, 3))):
        if spec.relation is not None:
            assert spec.relation in relations_between(spec.objects[0], spec.objects[1])
        boxes = [shape.box for shape in spec.objects]
        assert all(0 <= edge <= 1 for box in boxes for edge in box)
        for i, a in enumerate(boxes):
            for b in boxes[:i]:
                assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1], spec
