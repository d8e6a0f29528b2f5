"""Suite human: people's pass/fail answers in seven dimensions, from the annotation page's database; intervals bootstrap prompts."""

from __future__ import annotations

import json
from collections import defaultdict

from imagewright.annotation.project import DIMENSIONS
from imagewright.config.evaluation import HumanFormsConfig
from imagewright.errors import InputError, Problem
from imagewright.evaluation.benchmarks.suite import score_of
from imagewright.evaluation.formulas import HUMAN_DIMENSIONS
from imagewright.evaluation.results import Score
from imagewright.evaluation.statistics import bootstrap

SUITE = "human"
TOTAL = "total"

Answers = dict[str, dict[str, list[dict[str, bool]]]]
"""Model -> prompt -> forms."""


def read_answers(section: HumanFormsConfig) -> Answers:
    """Forms of annotators who passed calibration. Raises InputError for a project of another kind, or without an answer."""
    from imagewright.annotation.export import is_trusted  # the database driver is installed where people vote
    from imagewright.annotation.store import AnnotationStore

    store = AnnotationStore(section.database)
    project = store.project(section.project)
    if project.kind != "form":
        raise InputError(Problem("evaluation.human.project", "must be of kind form", project.kind, "make one with `imagewright annotate`"))
    found: Answers = defaultdict(lambda: defaultdict(list))
    asked = {key for pair in project.gold for key in pair}
    for assignment in store.assignments(section.project):
        if not is_trusted(project, store, assignment):
            continue
        for vote in store.votes(assignment.id):
            item = project.item(vote.images[0])
            if item.key not in asked and len(vote.images) == 1:
                found[item.category][item.prompt or item.key].append(json.loads(vote.answer))
    if not found:
        raise InputError(Problem("evaluation.human.project", "has no answers yet", section.project, "let people vote first"))
    return {model: dict(prompts) for model, prompts in found.items()}


def human_scores(forms: dict[str, list[dict[str, bool]]], resamples: int) -> list[Score]:
    """Pass rates of one model, and the total: the expected number of passed dimensions of the first six (knowledge is not counted)."""
    assert HUMAN_DIMENSIONS == DIMENSIONS, "page and formula name the same dimensions"
    num_forms = sum(map(len, forms.values()))
    scores = []
    for dimension in DIMENSIONS:
        rates = [sum(form[dimension] for form in given) / len(given) for given in forms.values()]
        scores.append(score_of(SUITE, dimension, rates, 1, resamples).model_copy(update={"num_images": num_forms}))
    totals = [sum(form[name] for form in given for name in DIMENSIONS[:6]) / len(given) for given in forms.values()]
    interval = bootstrap(totals, resamples)
    scores.append(
        Score(
            suite=SUITE,
            split="",
            task=TOTAL,
            value=interval.value,
            low=interval.low,
            high=interval.high,
            num_prompts=len(forms),
            num_images=num_forms,
        )
    )
    return scores
