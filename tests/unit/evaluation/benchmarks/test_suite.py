"""How verdicts become scores, and when there is no score."""

from __future__ import annotations

import numpy as np
import pytest

from imagewright.evaluation.benchmarks.suite import Suite, SuiteVerdicts, judge_suite, score_suite, suite_card
from imagewright.evaluation.judges.verdicts import JudgeFailed, Pixels, Prompt, Tally

PROMPTS = tuple(Prompt(f"{task}-{i}", task, f"{task} {i}", i) for task in ("a", "b") for i in range(3))


def brightness(image: Pixels, _: Prompt) -> float:
    return float(image.mean()) / 255


def suite(**judges: object) -> Suite:
    return Suite("demo", ("a", "b"), PROMPTS, suite_card("demo", PROMPTS, "generated"), judges)  # type: ignore[arg-type]


def test_tasks_and_their_mean_are_scored() -> None:
    images = np.stack([np.full((2, 2, 3), 255 * (place >= 6), np.uint8) for place in range(12)])
    found = suite(a=brightness, b=brightness)
    verdicts = judge_suite(found, images, 2)
    scores = {score.task: score for score in score_suite(found, verdicts, 2, 100)}
    assert {task: score.value for task, score in scores.items()} == {"a": 0.0, "b": 1.0, "overall": 0.5}
    assert (scores["overall"].num_prompts, scores["overall"].num_images) == (6, 12)


def test_without_a_judge_for_every_task_there_is_no_overall() -> None:
    found = suite(b=brightness)
    assert [prompt.task for prompt in found.judged_prompts()] == ["b"] * 3
    verdicts = judge_suite(found, np.zeros((3, 2, 2, 3), np.uint8), 1)
    assert [score.task for score in score_suite(found, verdicts, 1, 100)] == ["b"]


@pytest.mark.parametrize(("failed", "scored"), [(1, True), (2, False)])
def test_a_task_with_too_many_failed_verdicts_has_no_score(failed: int, scored: bool) -> None:
    tally = Tally(asked=20)
    tally.failed["crashed"] = failed  # 1 of 20 is the bound
    verdicts = SuiteVerdicts({prompt.prompt_id: 1.0 for prompt in PROMPTS}, {"a": tally, "b": Tally(asked=20)})
    tasks = [score.task for score in score_suite(suite(a=brightness, b=brightness), verdicts, 1, 100)]
    assert ("a" in tasks) == scored
    assert ("overall" in tasks) == scored
    assert verdicts.failed() == {"crashed": failed}


def test_a_crashing_judge_leaves_nothing_but_its_count() -> None:
    def crashes(_: Pixels, __: Prompt) -> float:
        raise JudgeFailed("no answer")

    found = suite(a=crashes)
    verdicts = judge_suite(found, np.zeros((3, 2, 2, 3), np.uint8), 1)
    assert (verdicts.per_prompt, verdicts.failed(), score_suite(found, verdicts, 1, 100)) == ({}, {"no answer": 3}, [])
