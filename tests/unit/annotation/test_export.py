"""What leaves the annotation store as data."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fixtures.annotation import make_project

from imagewright.annotation.export import export_project
from imagewright.annotation.project import DIMENSIONS
from imagewright.annotation.store import AnnotationStore


@pytest.fixture
def store(tmp_path: Path) -> AnnotationStore:
    return AnnotationStore(f"sqlite:///{tmp_path / 'votes.db'}")


def work(store: AnnotationStore, annotator: str, prefer: str = "later", stop_after: int = 1000) -> None:
    one = store.assign("looks", annotator)
    for _ in range(stop_after):
        view = store.view(one.id)
        question = view.position.question
        if question is None:
            return
        choice = max(question.images) if prefer == "later" else min(question.images)
        store.vote(one.id, question.key, view.revision, choice)


def test_finished_tournaments_become_tiers_and_open_ones_only_pairs(store: AnnotationStore, tmp_path: Path) -> None:
    make_project(store, items=4)
    work(store, "ann")
    work(store, "bob", stop_after=2)
    summary = export_project(store, "looks", tmp_path / "out")
    ratings = pq.read_table(tmp_path / "out" / "ratings.parquet").to_pylist()
    assert {row["item"]: row["tier"] for row in ratings} == {"image-0": 2, "image-1": 4, "image-2": 7, "image-3": 9}
    assert {row["annotator"] for row in ratings} == {"ann"} and {row["origin"] for row in ratings} == {"human"}
    pairs = pq.read_table(tmp_path / "out" / "pairs.parquet").to_pylist()
    assert len(pairs) == 8 == summary["votes"] and all(row["winner"] > row["loser"] for row in pairs)
    assert summary["pair_agreement"] == {"shared_comparisons": 2, "agreement": 1.0}


def test_disagreement_is_counted(store: AnnotationStore, tmp_path: Path) -> None:
    make_project(store, items=3, kind="preference")
    work(store, "ann")
    work(store, "bob")
    work(store, "eve", prefer="earlier")
    assert export_project(store, "looks", tmp_path)["pair_agreement"] == {"shared_comparisons": 6, "agreement": pytest.approx(1 / 3)}


def test_forms_give_pass_rates_and_the_reports_total(store: AnnotationStore, tmp_path: Path) -> None:
    make_project(store, items=2, kind="form")
    one = store.assign("looks", "ann")
    for passed in (True, False):
        view = store.view(one.id)
        assert view.position.question is not None
        form = {name: passed or name == "style" for name in DIMENSIONS}
        store.vote(one.id, view.position.question.key, view.revision, json.dumps(form))
    rates = export_project(store, "looks", tmp_path)["pass_rates"]
    assert rates["style"] == 1.0 and rates["knowledge"] == 0.5 and rates["total_hp"] == pytest.approx(3.5)
    assert pq.read_table(tmp_path / "forms.parquet").num_rows == 2


def test_annotators_who_failed_calibration_leave_no_data(store: AnnotationStore, tmp_path: Path) -> None:
    make_project(store, items=2, gold=2)
    work(store, "ann", prefer="earlier")
    summary = export_project(store, "looks", tmp_path)
    assert (summary["annotators"], summary["annotators_trusted"], summary["votes"]) == (1, 0, 0)


def test_project_nobody_has_voted_in_exports_nothing(store: AnnotationStore, tmp_path: Path) -> None:
    make_project(store, items=2, kind="preference")
    assert export_project(store, "looks", tmp_path)["pair_agreement"]["agreement"] is None
