"""What the store promises about votes: kept, counted once, taken back on request."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fixtures.annotation import make_project

from imagewright.annotation.project import Assignment
from imagewright.annotation.store import AnnotationStore
from imagewright.errors import InputError


@pytest.fixture
def store(tmp_path: Path) -> AnnotationStore:
    return AnnotationStore(f"sqlite:///{tmp_path / 'votes.db'}")


def answer_all(store: AnnotationStore, assignment: Assignment, best_last: bool = True) -> int:
    """Prefers the later image until nothing is asked; returns the number of votes."""
    for count in range(1000):
        view = store.view(assignment.id)
        question = view.position.question
        if question is None:
            return count
        choice = max(question.images) if best_last else question.images[0]
        assert store.vote(assignment.id, question.key, view.revision, choice)
    raise AssertionError("the work never ends")


@pytest.mark.parametrize(("items", "votes"), [(2, 1), (3, 3), (4, 6), (5, 10), (8, 20)])
def test_tournament_of_any_size_ends(store: AnnotationStore, items: int, votes: int) -> None:
    make_project(store, items=items)
    assert answer_all(store, store.assign("looks", "ann")) == votes


def test_second_click_changes_nothing(store: AnnotationStore) -> None:
    make_project(store)
    one = store.assign("looks", "ann")
    view = store.view(one.id)
    question = view.position.question
    assert question is not None
    assert store.vote(one.id, question.key, view.revision, question.images[0])
    assert not store.vote(one.id, question.key, view.revision, question.images[0])
    assert not store.vote(one.id, question.key, view.revision, question.images[1])
    assert [vote.answer for vote in store.votes(one.id)] == [question.images[0]]


def test_two_servers_on_one_database_take_one_of_many_equal_votes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'votes.db'}"
    stores = [AnnotationStore(url), AnnotationStore(url)]
    make_project(stores[0])
    one = stores[0].assign("looks", "ann")
    view = stores[1].view(one.id)
    question = view.position.question
    assert question is not None
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda n: stores[n % 2].vote(one.id, question.key, view.revision, question.images[n % 2]), range(16)))
    assert sum(taken) == 1 and len(stores[0].votes(one.id)) == 1


def test_undo_asks_the_same_question_again_and_a_late_click_on_the_old_page_is_refused(store: AnnotationStore) -> None:
    make_project(store)
    one = store.assign("looks", "ann")
    view = store.view(one.id)
    question = view.position.question
    assert question is not None
    store.vote(one.id, question.key, view.revision, question.images[0])
    assert store.undo(one.id, store.view(one.id).revision)
    assert store.view(one.id).position.question == question
    assert not store.vote(one.id, question.key, view.revision, question.images[0])
    assert store.votes(one.id) == []
    assert not store.undo(one.id, store.view(one.id).revision)


def test_undo_reaches_back_over_a_round(store: AnnotationStore) -> None:
    make_project(store, items=4)
    one = store.assign("looks", "ann")
    for _ in range(2):
        view = store.view(one.id)
        assert view.position.question is not None
        store.vote(one.id, view.position.question.key, view.revision, view.position.question.images[0])
    second_round = store.view(one.id)
    assert second_round.position.question is not None and second_round.position.question.round == 1
    store.undo(one.id, second_round.revision)
    again = store.view(one.id).position.question
    assert again is not None and again.round == 0


def test_vote_for_a_pair_not_asked_is_refused(store: AnnotationStore) -> None:
    make_project(store)
    one = store.assign("looks", "ann")
    view = store.view(one.id)
    assert view.position.question is not None
    with pytest.raises(InputError, match="was not asked"):
        store.vote(one.id, "0" * 24, view.revision, "image-0")
    with pytest.raises(InputError, match="one of the images shown"):
        store.vote(one.id, view.position.question.key, view.revision, "image-99")
    assert store.view(one.id).revision == view.revision and store.votes(one.id) == []


def test_annotator_who_always_clicks_left_never_reaches_the_work(store: AnnotationStore) -> None:
    make_project(store, gold=3)
    one = store.assign("looks", "ann")
    assert answer_all(store, one, best_last=False) == 6
    view = store.view(one.id)
    assert view.position.failed
    assert not store.undo(one.id, view.revision)


def test_attentive_annotator_passes_and_goes_on(store: AnnotationStore) -> None:
    make_project(store, items=4, gold=2)
    one = store.assign("looks", "ann")
    while (stand := store.view(one.id)).position.question is not None:
        question = stand.position.question
        choice = next((key for key in question.images if key.startswith("good")), max(question.images))
        store.vote(one.id, question.key, stand.revision, choice)
    assert stand.position.calibration is not None and stand.position.calibration.passed
    assert len(store.votes(one.id)) == 4 + 6


def test_deleted_image_is_asked_no_more_and_votes_stand(store: AnnotationStore) -> None:
    make_project(store, items=8)
    one = store.assign("looks", "ann")
    view = store.view(one.id)
    assert view.position.question is not None
    store.vote(one.id, view.position.question.key, view.revision, view.position.question.images[0])
    before = store.votes(one.id)
    gone = store.view(one.id).position.question
    assert gone is not None
    store.delete_image("looks", gone.images[0])
    assert store.image("looks", gone.images[0]) is None
    while (question := store.view(one.id).position.question) is not None:
        assert gone.images[0] not in question.images
        store.vote(one.id, question.key, store.view(one.id).revision, question.images[0])
    assert store.votes(one.id)[:1] == before


def test_annotators_have_assignments_of_their_own(store: AnnotationStore) -> None:
    make_project(store)
    ann, bob = store.assign("looks", "ann", ("image-0", "image-1")), store.assign("looks", "bob")
    assert ann.id != bob.id and store.assign("looks", "ann") == ann
    assert answer_all(store, ann) == 1
    assert store.votes(bob.id) == []
    with pytest.raises(InputError, match="rated items"):
        store.assign("looks", "cid", ("nothing",))


def test_projects_that_cannot_work_are_refused(store: AnnotationStore) -> None:
    with pytest.raises(ValueError, match="at least 2 images"):
        make_project(store, items=1)
    make_project(store)
    with pytest.raises(InputError, match="is taken"):
        make_project(store)
    with pytest.raises(InputError, match="projects: looks"):
        store.project("other")
