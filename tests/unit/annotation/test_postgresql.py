"""Votes in a real PostgreSQL: the same promises as on SQLite."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from fixtures.annotation import free_port, make_project, picture
from fixtures.postgresql import NAME, running_postgresql
from unit.annotation.test_page import killed_votes
from unit.annotation.test_store import answer_all

from imagewright.annotation.export import export_project
from imagewright.annotation.store import AnnotationStore
from imagewright.errors import InputError

pytestmark = pytest.mark.postgresql


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """URL of a server of our own, without a database."""
    with running_postgresql() as running:
        yield f"postgresql+psycopg://{NAME}:{running.password}@127.0.0.1:{running.port}"


@pytest.fixture
def url(server: str, request: pytest.FixtureRequest) -> str:
    """An empty database of the test's own."""
    name = f"t{zlib.crc32(request.node.name.encode())}"
    with sa.create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    return f"{server}/{name}"


def test_servers_that_start_together_on_an_empty_database_take_one_of_many_equal_votes(url: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(lambda _: AnnotationStore(url), range(4)))
        make_project(stores[0])
        one = stores[0].assign("looks", "ann")
        view = stores[1].view(one.id)
        question = view.position.question
        assert question is not None
        taken = list(pool.map(lambda n: stores[n % 4].vote(one.id, question.key, view.revision, question.images[n % 2]), range(16)))
    assert sum(taken) == 1 and len(stores[0].votes(one.id)) == 1


def test_a_tournament_is_done_undone_and_exported(url: str, tmp_path: Path) -> None:
    store = AnnotationStore(url)
    make_project(store, items=5)
    one = store.assign("looks", "ann")
    assert answer_all(store, one) == 10
    assert store.undo(one.id, store.view(one.id).revision) and len(store.votes(one.id)) == 9
    assert answer_all(store, one) == 1
    assert export_project(AnnotationStore(url), "looks", tmp_path)["rated_images"] == 5
    assert store.image("looks", "image-0") == picture(20)
    store.delete_image("looks", "image-0")
    assert store.image("looks", "image-0") is None and len(store.votes(one.id)) == 10


def test_no_vote_is_lost_or_doubled_while_the_annotation_server_is_killed(url: str) -> None:
    assert killed_votes(url, votes=30, kills=2, seed=1) == 30


def test_a_server_that_is_away_is_named(url: str) -> None:
    with pytest.raises(InputError, match="annotation database"):
        AnnotationStore(f"postgresql+psycopg://votes@127.0.0.1:{free_port()}/nothing")
