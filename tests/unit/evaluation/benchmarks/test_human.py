"""People's forms as scores: seven rates and the total of the first six."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixtures.annotation import make_project, picture

from imagewright.annotation.project import DIMENSIONS, Item, Project
from imagewright.annotation.store import AnnotationStore
from imagewright.config.evaluation import HumanFormsConfig
from imagewright.errors import InputError
from imagewright.evaluation.benchmarks.human import human_scores, read_answers


def voted(database: str) -> AnnotationStore:
    """Two models, two prompts, one annotator who finds nothing creative in the second model."""
    store = AnnotationStore(database)
    items = [Item(key=f"{model}-{i}", prompt=f"prompt {i}", category=model) for model in ("base", "turbo") for i in range(2)]
    project = Project(name="forms", kind="form", items=tuple(items))
    store.create_project(project, {item.key: picture(90) for item in items})
    assignment = store.assign("forms", "ann")
    while (view := store.view(assignment.id)).position.question is not None:
        question = view.position.question
        turbo = question.images[0].startswith("turbo")
        answer = {name: not (turbo and name == "creativity") for name in DIMENSIONS}
        assert store.vote(assignment.id, question.key, view.revision, json.dumps(answer))
    return store


def test_forms_are_grouped_by_model_and_summed_over_six_dimensions(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'votes.db'}"
    voted(database)
    answers = read_answers(HumanFormsConfig(database=database, project="forms"))
    assert {model: sorted(prompts) for model, prompts in answers.items()} == {
        "base": ["prompt 0", "prompt 1"],
        "turbo": ["prompt 0", "prompt 1"],
    }
    scores = {score.task: score for score in human_scores(answers["turbo"], 100)}
    assert (scores["creativity"].value, scores["knowledge"].value, scores["total"].value) == (0.0, 1.0, 5.0)
    assert scores["total"].num_images == 2
    assert human_scores(answers["base"], 100)[-1].value == 6.0


def test_projects_of_another_kind_or_without_votes_are_refused(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'votes.db'}"
    store = AnnotationStore(database)
    make_project(store, name="looks")
    make_project(store, kind="form", name="empty")
    with pytest.raises(InputError, match="must be of kind form"):
        read_answers(HumanFormsConfig(database=database, project="looks"))
    with pytest.raises(InputError, match="no answers yet"):
        read_answers(HumanFormsConfig(database=database, project="empty"))
