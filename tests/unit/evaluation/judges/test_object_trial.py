"""A detector is believed only after a trial on labelled pictures: an exact one passes, a blind and a careless one do not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from imagewright.config.evaluation import BenchmarkFile, EvaluationConfig
from imagewright.evaluation.benchmarks.official import BenchmarkError
from imagewright.evaluation.judges.detector import Found
from imagewright.evaluation.judges.object_trial import Picture, compose, object_cards, read_pictures, tried_tasks
from imagewright.evaluation.judges.objects import ObjectJudge, satisfies
from imagewright.evaluation.judges.verdicts import Pixels
from imagewright.evaluation.results import JudgeCard

MARKS = {"car": ((220, 20, 30), "red"), "dog": ((30, 70, 210), "blue"), "apple": ((30, 140, 60), "green")}


def context() -> SimpleNamespace:
    config = EvaluationConfig(suites=("geneval_coco",), resolution_px=48)
    return SimpleNamespace(
        config=config, seed=0, rng=lambda name: np.random.default_rng([0, *name.encode()]), through_vae=lambda images: images
    )


def pictures() -> list[Picture]:
    return [Picture(np.full((30, 30, 3), rgb, dtype=np.uint8), name, colour) for name, (rgb, colour) in MARKS.items()]


def read_marks(image: Pixels) -> list[Found]:
    """A detector that is exact on plain squares: each connected patch of a mark's colour is one object."""
    return read_bytes(image.tobytes(), image.shape)


@cache
def read_bytes(data: bytes, shape: tuple[int, ...]) -> list[Found]:
    """One image meets many prompts in a trial."""
    image = np.frombuffer(data, dtype=np.uint8).reshape(shape)
    found = []
    for name, (rgb, _) in MARKS.items():
        labels, _ = ndimage.label(np.abs(image.astype(int) - rgb).max(axis=2) < 40)
        for rows, columns in ndimage.find_objects(labels):
            box = (columns.start, rows.start, columns.stop, rows.stop)
            width, height = columns.stop - columns.start, rows.stop - rows.start
            if width * height > 40 and width < image.shape[1]:  # an image full of one colour shows no object
                found.append(Found(name, 0.9, tuple(edge / image.shape[0] for edge in box)))  # type: ignore[arg-type]
    return found


def cards(detect: object, known: Sequence[Picture]) -> dict[str, JudgeCard]:
    return object_cards(context(), ObjectJudge(detect), "marks", "digest", known)  # type: ignore[arg-type]


def test_composed_scenes_show_what_their_prompt_asks() -> None:
    rng = np.random.default_rng(0)
    for kind in ("objects", "counting", "position", "colours"):
        scenes = compose(kind, pictures(), 48, rng)
        assert len(scenes) == 24
        assert all(satisfies(scene.seen, scene.truth) for scene in scenes)
        assert all(len(read_marks(scene.image)) == len(scene.seen) for scene in scenes)


def test_an_exact_detector_is_believed_for_every_task() -> None:
    found = cards(read_marks, pictures())
    assert {kind: card.refused for kind, card in found.items()} == dict.fromkeys(("objects", "counting", "position", "colours"), "")
    assert all(card.ceiling == 1.0 and max(card.floors.values()) == 0.0 for card in found.values())
    assert tried_tasks(found) == {}


def test_a_blind_detector_and_one_that_sees_everything_are_refused() -> None:
    def careless(image: Pixels) -> list[Found]:
        return [Found(name, 0.9, (0.1, 0.1, 0.9, 0.9)) for name in MARKS]

    blind, everything = cards(lambda image: [], pictures()), cards(careless, pictures())
    assert "of ground truth right" in blind["objects"].refused
    assert "of wrong images right" in everything["objects"].refused
    assert set(tried_tasks(blind)) == {"single", "two", "counting", "colors", "position", "color_attr"}


def test_without_pictures_or_colours_nobody_is_believed() -> None:
    assert all("not tried" in card.refused for card in cards(read_marks, []).values())
    uncoloured = [Picture(item.pixels, item.name, None) for item in pictures()]
    assert set(tried_tasks(cards(read_marks, uncoloured))) == {"colors", "color_attr"}


def index(folder: Path, rows: Sequence[dict[str, object]]) -> BenchmarkFile:
    text = "\n".join(map(json.dumps, rows))
    (folder / "index.jsonl").write_text(text, encoding="utf-8")
    return BenchmarkFile(path=str(folder / "index.jsonl"), sha256=hashlib.sha256(text.encode()).hexdigest())


def test_pictures_are_read_from_the_pinned_index(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "car.png")
    (read,) = read_pictures(index(tmp_path, [{"image": "car.png", "class": "car", "colour": "white"}]))
    assert (read.name, read.colour, read.pixels.min()) == ("car", "white", 255)  # transparency lies over white


@pytest.mark.parametrize(
    "row",
    [
        {"image": "../car.png", "class": "car"},
        {"image": "gone.png", "class": "car"},
        {"image": "car.png", "class": "walrus"},
        {"image": "car.png", "class": "car", "colour": "mauve"},
        {"image": "broken.png", "class": "car"},
        {"class": "car"},
    ],
)
def test_a_line_that_is_no_picture_is_named(tmp_path: Path, row: dict[str, object]) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "car.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(BenchmarkError, match="line 1"):
        read_pictures(index(tmp_path, [row]))
