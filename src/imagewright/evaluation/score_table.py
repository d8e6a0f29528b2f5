"""Scores as tables: one row a task, one column a model or a run, with intervals and paired comparisons as pages draw them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from imagewright.evaluation.formulas import GENEVAL_TASKS
from imagewright.evaluation.results import JudgeCard, ModelResult, SuiteCard
from imagewright.evaluation.statistics import Interval, PairedComparison, compare_paired

TOTALS = ("overall", "total")
TITLES = {
    "distance": "distance, distribution of images against held-out scenes; lower is nearer",
    "distribution": "distribution of images against held-out scenes",
}
"""Groups whose suite's name says too little."""
MIN_SCALE = 0.05
"""Smallest half width of a difference bar, so that noise does not look like a result."""


@dataclass(frozen=True)
class ScoreRow:
    """One task through the columns; None where a column was not measured."""

    suite: str
    split: str
    task: str
    values: tuple[Interval | None, ...]
    ceiling: float | None = None
    """What the judge gives ground truth after the autoencoder, where that is known."""


def score_rows(
    columns: Sequence[ModelResult | None], card: JudgeCard | None = None, suite_cards: Sequence[SuiteCard] = ()
) -> list[ScoreRow]:
    """Every score of the columns: suites in the order they were run, seen prompts first, totals last.

    card: the scene judge's. suite_cards: those of the further suites.
    """
    tables = [
        {(score.suite, score.split, score.task): Interval(score.value, score.low, score.high) for score in column.scores} if column else {}
        for column in columns
    ]
    keys = list(dict.fromkeys(key for table in tables for key in table))
    suites = list(dict.fromkeys(suite for suite, _, _ in keys))

    def place(key: tuple[str, str, str]) -> tuple[int, int, bool, int]:
        suite, split, task = key
        known = GENEVAL_TASKS.index(task) if task in GENEVAL_TASKS else 0
        return suites.index(suite), ("seen", "compositional", split).index(split), task in TOTALS, known

    return [
        ScoreRow(*key, tuple(table.get(key) for table in tables), ceiling_of(card, suite_cards, key)) for key in sorted(keys, key=place)
    ]


def ceiling_of(card: JudgeCard | None, suite_cards: Sequence[SuiteCard], key: tuple[str, str, str]) -> float | None:
    """The ceiling through the autoencoder of a task, where its judge was tried on that task alone."""
    suite, _, task = key
    if suite != "geneval" or card is None:
        judges = [judge for one in suite_cards if one.suite == suite for judge in one.judges]
        return next((judge.ceiling_through_vae_by_task[task] for judge in judges if task in judge.ceiling_through_vae_by_task), None)
    return card.ceiling_through_vae if task == "overall" else card.ceiling_through_vae_by_task.get(task)


def score_groups(rows: Sequence[ScoreRow]) -> list[dict[str, Any]]:
    """Rows by suite and split, with the value at the end of the bars: 1, or the largest bound where scores go further."""
    groups = []
    for (suite, split), members in groupby(rows, key=lambda row: (row.suite, row.split)):
        chosen = list(members)
        end = max([1.0, *(value.high for row in chosen for value in row.values if value)])
        title = TITLES.get(suite, suite)
        groups.append({"title": f"{title}, {split} prompts" if split else title, "rows": chosen, "end": end})
    return groups


def paired_suites(after: ModelResult, before: ModelResult) -> dict[str, PairedComparison]:
    """One row against another on the prompts both were asked, by further suite; the composed scenes come first, under an empty name."""
    mine, theirs = {"": after.per_prompt, **after.further}, {"": before.per_prompt, **before.further}
    return {suite: compare_paired(mine[suite], theirs[suite]) for suite in mine if mine[suite].keys() & theirs.get(suite, {}).keys()}


def paired_rows(pairs: Mapping[str, PairedComparison]) -> list[dict[str, Any]]:
    """Comparisons with their verdicts: the interval of the difference decides."""
    return [{"name": name, "pair": pair, "verdict": verdict_of(pair.difference)} for name, pair in pairs.items()]


def verdict_of(difference: Interval) -> str:
    """better or worse when the interval leaves zero out, else undecided."""
    return "better" if difference.low > 0 else "worse" if difference.high < 0 else "undecided"


def paired_scale(pairs: Iterable[PairedComparison]) -> float:
    """Half width of the difference bars: the largest bound."""
    return max([MIN_SCALE, *(abs(bound) for pair in pairs for bound in (pair.difference.low, pair.difference.high))])
