"""Which judges are trusted."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scene_drawing import draw, gallery

from imagewright.evaluation.calibration import Calibration, JudgeRefusedError, calibrate, change_one_attribute, require_trustworthy
from imagewright.evaluation.scene_judge import ScenePrompt, prompt_from_scene, read_scene

GOOD = Calibration(100, 0.95, {}, {"shuffled": 0.05, "blank": 0.0}, {})


@pytest.fixture(scope="module")
def measured() -> Calibration:
    scenes = gallery()
    return calibrate([draw(json.loads(text)) for text in scenes], scenes)


def test_scene_judge_is_trusted_on_ground_truth(measured: Calibration) -> None:
    require_trustworthy(measured)
    assert measured.ceiling >= 0.95
    assert measured.worst_floor <= 0.05
    assert set(measured.floors) == {"shuffled", "attribute changed", "blank", "noise"}
    assert set(measured.ceiling_by_task) == {"colors", "position", "two", "color_attr", "counting"}


def test_confusion_names_every_attribute(measured: Calibration) -> None:
    assert measured.confusion["shape"]["star"]["star"] > 50
    assert set(measured.confusion) == {"shape", "colour"}


def test_judge_that_says_yes_to_everything_is_refused() -> None:
    scenes = gallery()[:40]
    images = [draw(json.loads(text)) for text in scenes]
    gullible = [item for text in scenes for item in read_scene(draw(json.loads(text)))]
    unique = {(item.shape, item.colour): item for item in gullible}.values()
    with pytest.raises(JudgeRefusedError, match=r"judge\.(floor|ceiling)"):
        require_trustworthy(calibrate(images, scenes, read=lambda image: tuple(unique)[:6]))


def test_judge_that_sees_nothing_is_refused() -> None:
    scenes = gallery()[:20]
    with pytest.raises(JudgeRefusedError, match=r"judge\.ceiling"):
        require_trustworthy(calibrate([draw(json.loads(text)) for text in scenes], scenes, read=lambda image: ()))


def test_thresholds_hold_exactly_at_their_values() -> None:
    require_trustworthy(GOOD)
    with pytest.raises(JudgeRefusedError, match="ceiling"):
        require_trustworthy(replace(GOOD, ceiling=0.9499))
    with pytest.raises(JudgeRefusedError, match="floor"):
        require_trustworthy(replace(GOOD, floors={"shuffled": 0.0501}))


def test_exactly_one_attribute_changes() -> None:
    rng = np.random.default_rng(0)
    prompt = ScenePrompt("position", (("circle", "red"), ("star", "blue")), "above")
    for _ in range(50):
        changed = change_one_attribute(prompt, rng)
        before = [*prompt.objects[0], *prompt.objects[1], prompt.relation]
        after = [*changed.objects[0], *changed.objects[1], changed.relation]
        assert sum(a != b for a, b in zip(before, after, strict=True)) == 1


def test_changed_count_stays_a_count() -> None:
    rng = np.random.default_rng(0)
    prompt = prompt_from_scene({"task": "counting", "count": 1, "relation": None, "objects": [{"shape": "star", "colour": "red"}]})
    changed = [change_one_attribute(prompt, rng) for _ in range(40)]
    assert all(item.count is not None and item.count >= 1 for item in changed)
