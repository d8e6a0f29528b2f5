"""The packaged detector really finds a photographed person, and only the pinned files are run."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from imagewright.errors import InputError
from imagewright.evaluation.benchmarks.geneval_prompts import CLASSES
from imagewright.evaluation.judges import detector as module
from imagewright.evaluation.judges.detector import Detector, class_of, colour_name, colour_of, model_files

PORTRAIT = Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg"


def test_cocos_numbers_name_the_80_classes() -> None:
    named = [class_of(number) for number in range(92)]
    assert [name for name in named if name] == list(CLASSES)
    assert [class_of(number) for number in (0, 1, 12, 13, 18, 44, 90, 91)] == [
        None, "person", None, "stop sign", "dog", "bottle", "toothbrush", None
    ]  # fmt: skip


def test_a_portrait_holds_a_person_with_a_tie_and_a_blank_image_nothing() -> None:
    detect = Detector()
    portrait = np.asarray(Image.open(PORTRAIT).convert("RGB"))
    found = {item.name: item for item in detect(portrait)}
    assert {"person", "tie"} <= set(found)
    left, top, right, bottom = found["tie"].box
    assert found["person"].box[0] < left < right < found["person"].box[2]
    assert 0.4 < top < bottom < 1.0
    assert detect(np.zeros((32, 32, 3), dtype=np.uint8)) == []


def test_another_file_than_the_pinned_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TEXT_GRAPH_SHA256", "0" * 64)
    model_files.cache_clear()
    with pytest.raises(InputError, match="must have the SHA-256"):
        model_files()
    model_files.cache_clear()


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((220, 20, 30), "red"),
        ((250, 150, 10), "orange"),
        ((245, 220, 40), "yellow"),
        ((30, 140, 60), "green"),
        ((30, 70, 210), "blue"),
        ((120, 30, 170), "purple"),
        ((250, 130, 190), "pink"),
        ((110, 70, 30), "brown"),
        ((15, 15, 15), "black"),
        ((250, 250, 250), "white"),
        ((128, 128, 128), None),
    ],
)
def test_colours_have_the_names_people_give_them(rgb: tuple[int, int, int], name: str | None) -> None:
    assert colour_name(*rgb) == name
    assert colour_of(np.full((20, 20, 3), rgb, dtype=np.uint8), (0.1, 0.1, 0.9, 0.9)) == name


def test_a_box_outside_the_image_has_no_colour() -> None:
    assert colour_of(np.zeros((20, 20, 3), dtype=np.uint8), (1.0, 0.0, 1.2, 1.0)) is None
