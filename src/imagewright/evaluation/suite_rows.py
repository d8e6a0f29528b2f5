"""The further suites of one row: the same prompts for every model, with and without the enhancer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from imagewright.config.evaluation import EvaluationConfig
from imagewright.evaluation.benchmarks.human import Answers, human_scores
from imagewright.evaluation.benchmarks.suite import Suite, judge_suite, score_suite
from imagewright.evaluation.enhancement import Enhancement
from imagewright.evaluation.generation import Generator
from imagewright.evaluation.page import name_of
from imagewright.evaluation.painting import Easel, paint_prompts
from imagewright.evaluation.results import ModelResult


class Asked(Protocol):
    """A prompt of any suite."""

    @property
    def task(self) -> str:
        """Task of its suite."""

    @property
    def split(self) -> str:
        """Split of its suite; may be empty."""


P = TypeVar("P", bound=Asked)


def first_of_each(prompts: Sequence[P], per_task: int) -> list[P]:
    """The first per_task prompts of every split and task; all when it is 0."""
    taken: Counter[tuple[str, str]] = Counter()
    found = []
    for prompt in prompts:
        taken[prompt.split, prompt.task] += 1
        if not per_task or taken[prompt.split, prompt.task] <= per_task:
            found.append(prompt)
    return found


def enhanced_suites(suites: Sequence[Suite], per_task: int) -> list[Suite]:
    """The suites as the rows with enhancer are asked them; what nobody can judge is not expanded."""
    return [replace(suite, prompts=tuple(first_of_each(suite.judged_prompts(), per_task))) for suite in suites]


def add_suites(
    easel: Easel,
    generator: Generator,
    row: ModelResult,
    suites: Sequence[Suite],
    forms: Answers,
    enhancement: Enhancement | None = None,
) -> ModelResult:
    """The row with the scores of the further suites; failed verdicts are counted beside them.

    With an enhancer the expanded prompt is painted, and the prompt as it was asked is judged.
    """
    copies, resamples = easel.config.images_per_prompt, easel.config.bootstrap_resamples
    scores, further, failed = list(row.scores), dict(row.further), dict(row.failed_verdicts)
    for suite in suites:
        prompts = suite.judged_prompts()
        if not prompts:
            continue
        images, _ = paint_prompts(easel, row.lineage, generator, [(p.prompt_id, p.text) for p in prompts], enhancement)
        verdicts = judge_suite(suite, images, copies)
        scores += score_suite(suite, verdicts, copies, resamples)
        further[suite.name] = verdicts.per_prompt
        failed |= {suite.name: verdicts.failed()} if verdicts.failed() else {}
    found = row.model_copy(update={"scores": scores, "further": further, "failed_verdicts": failed})
    return with_forms(found, forms, easel.config)


def with_forms(row: ModelResult, forms: Answers, config: EvaluationConfig) -> ModelResult:
    """The row with people's answers about the model, which they knew only by its pictures."""
    given = forms.get(name_of(row))
    return row.model_copy(update={"scores": [*row.scores, *human_scores(given, config.bootstrap_resamples)]}) if given else row
