"""Tables of scores: order, gaps, verdicts."""

from __future__ import annotations

import pytest
from report_case import results

from imagewright.evaluation.score_table import paired_scale, score_groups, score_rows, verdict_of
from imagewright.evaluation.statistics import Interval, compare_paired


def test_seen_prompts_come_first_and_totals_last() -> None:
    found = results()
    rows = score_rows(found.models, found.judge)
    assert [row.split for row in rows] == ["seen"] * 7 + ["compositional"] * 7
    assert [row.task for row in rows[:7]] == ["single", "two", "counting", "colors", "position", "color_attr", "overall"]
    assert rows[6].ceiling == found.judge.ceiling_through_vae


def test_a_model_without_a_score_leaves_a_gap() -> None:
    first, second, _ = results().models
    rows = score_rows([first, None, second.model_copy(update={"scores": second.scores[:1]})])
    assert rows[0].values[1] is None
    assert rows[1].values[2] is None
    assert rows[1].values[0] is not None


def test_bars_end_at_one_unless_scores_go_further() -> None:
    row = results().models[0]
    total = row.scores[0].model_copy(update={"suite": "human", "split": "", "task": "total", "value": 4.5, "low": 4.0, "high": 5.0})
    groups = score_groups(score_rows([row.model_copy(update={"scores": [*row.scores, total]})]))
    assert [(group["title"], group["end"]) for group in groups] == [
        ("geneval, seen prompts", 1.0),
        ("geneval, compositional prompts", 1.0),
        ("human", 5.0),
    ]


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.01, 0.2, "better"), (0.0, 0.2, "undecided"), (-0.2, 0.0, "undecided"), (-0.2, -0.01, "worse")]
)
def test_an_interval_with_zero_in_it_decides_nothing(low: float, high: float, verdict: str) -> None:
    assert verdict_of(Interval((low + high) / 2, low, high)) == verdict


def test_scale_of_differences_is_never_tiny() -> None:
    same = compare_paired({"a": 1.0, "b": 0.5}, {"a": 1.0, "b": 0.5})
    assert paired_scale([same]) == 0.05
