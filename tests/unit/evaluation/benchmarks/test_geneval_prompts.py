"""Our 553 prompts have the benchmark's mix and say what their truth says; the benchmark's own file is read line by line."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from imagewright.evaluation.benchmarks.geneval_prompts import (
    CLASSES,
    COLOURS,
    NUM_PROMPTS,
    ObjectTruth,
    Wanted,
    generated_prompts,
    geneval_prompts,
    plural,
)
from imagewright.evaluation.benchmarks.official import BenchmarkError


def test_553_different_prompts_in_the_benchmarks_mix() -> None:
    prompts = generated_prompts("geneval_coco", 0)
    assert len(prompts) == len({prompt.text for prompt in prompts}) == len({prompt.prompt_id for prompt in prompts}) == 553
    assert Counter(prompt.task for prompt in prompts) == NUM_PROMPTS
    assert prompts == generated_prompts("geneval_coco", 0) != generated_prompts("geneval_coco", 1)
    assert {prompt.truth.include[0].name for prompt in prompts if prompt.task == "single"} == set(CLASSES)


def test_every_prompt_says_what_its_truth_asks() -> None:
    for prompt in generated_prompts("geneval_coco", 3):
        truth: ObjectTruth = prompt.truth
        for wanted in truth.include:
            assert (wanted.name if wanted.count == 1 else plural(wanted.name)) in prompt.text
            assert wanted.colour is None or f"{wanted.colour} {wanted.name}" in prompt.text
            assert wanted.relation is None or f"{wanted.name} {wanted.relation[0]} " in prompt.text
        assert bool(truth.exclude) == (prompt.task == "counting")
        assert (
            len({wanted.name for wanted in truth.include})
            == len(truth.include)
            == (2 if prompt.task in ("two", "position", "color_attr") else 1)
        )
        assert not any(wanted.name == "person" and wanted.colour for wanted in truth.include)


def test_a_limit_takes_the_same_prompts_from_every_task() -> None:
    few = generated_prompts("geneval_coco", 0, limit=2)
    assert Counter(prompt.task for prompt in few) == dict.fromkeys(NUM_PROMPTS, 2)
    assert {prompt.text for prompt in few} < {prompt.text for prompt in generated_prompts("geneval_coco", 0)}


def test_the_benchmarks_own_lines_keep_counts_colours_and_positions() -> None:
    rows = [
        {
            "tag": "counting",
            "include": [{"class": "clock", "count": 2}],
            "exclude": [{"class": "clock", "count": 3}],
            "prompt": "two clocks",
        },
        {"tag": "colors", "include": [{"class": "car", "count": 1, "color": COLOURS[0]}], "prompt": "a red car"},
        {
            "tag": "position",
            "include": [{"class": "bear", "count": 1}, {"class": "dog", "count": 1, "position": ["left of", 0]}],
            "prompt": "a dog left of a bear",
        },
    ]
    found = geneval_prompts("\n".join(map(json.dumps, rows)), "geneval_coco")
    assert [prompt.task for prompt in found] == ["counting", "colors", "position"]
    assert found[0].truth == ObjectTruth((Wanted("clock", 2),), (("clock", 3),))
    assert found[2].truth.include[1] == Wanted("dog", 1, None, ("left of", 0))


@pytest.mark.parametrize(
    "row",
    [
        {"tag": "beauty", "include": [{"class": "cat", "count": 1}], "prompt": "x"},
        {"tag": "single_object", "include": [{"class": "walrus", "count": 1}], "prompt": "x"},
        {"tag": "single_object", "include": [], "prompt": "x"},
        {"tag": "single_object", "include": "cat", "prompt": "x"},
        {"tag": "colors", "include": [{"class": "cat", "count": 1, "color": "mauve"}], "prompt": "x"},
        {"tag": "position", "include": [{"class": "cat", "count": 1, "position": ["left of", 0]}], "prompt": "x"},
        {"tag": "single_object", "include": [{"class": "cat", "count": 1}]},
    ],
)
def test_a_line_that_asks_for_nothing_known_is_named(row: dict[str, object]) -> None:
    with pytest.raises(BenchmarkError, match="line 1"):
        geneval_prompts(json.dumps(row), "geneval_coco")
