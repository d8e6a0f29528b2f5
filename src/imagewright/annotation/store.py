"""Votes on disk: SQLite in WAL mode, or any database SQLAlchemy knows. A vote that was answered for is never lost or doubled.

Every change of an assignment is one transaction that moves its revision on by one, from the revision the annotator's page was made at:
a double click, a second tab, a repeated request and a second server all lose that race and change nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imagewright.annotation.project import DIMENSIONS, Assignment, Position, Project, position, question_key
from imagewright.errors import InputError, Problem

METADATA = sa.MetaData()
PROJECTS = sa.Table(
    "projects", METADATA, sa.Column("name", sa.String(64), primary_key=True), sa.Column("tree", sa.Text), sa.Column("created", sa.Float)
)
IMAGES = sa.Table(
    "images",
    METADATA,
    sa.Column("project", sa.String(64), primary_key=True),
    sa.Column("item", sa.String(128), primary_key=True),
    sa.Column("data", sa.LargeBinary),
)
ASSIGNMENTS = sa.Table(
    "assignments",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("project", sa.String(64), index=True),
    sa.Column("tree", sa.Text),
    sa.Column("revision", sa.Integer, nullable=False),
)
VOTES = sa.Table(
    "votes",
    METADATA,
    sa.Column("assignment", sa.String(64), primary_key=True),
    sa.Column("question", sa.String(64), primary_key=True),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("images", sa.Text, nullable=False),
    sa.Column("answer", sa.Text, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
)
UNDONE = sa.Table(
    "undone",
    METADATA,
    sa.Column("assignment", sa.String(64), primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True),
    sa.Column("vote", sa.Text, nullable=False),
)
WITHDRAWN = sa.Table(
    "withdrawn",
    METADATA,
    sa.Column("assignment", sa.String(64), primary_key=True),
    sa.Column("item", sa.String(128), primary_key=True),
    sa.Column("round", sa.Integer, nullable=False),
)


@dataclass(frozen=True)
class Vote:
    """One stored answer. images: as they were shown, left first."""

    question: str
    images: tuple[str, ...]
    answer: str
    revision: int
    created: float


@dataclass(frozen=True)
class View:
    """All an annotator's page needs. revision goes out with the page and comes back with the vote."""

    project: Project
    assignment: Assignment
    position: Position
    revision: int


class AnnotationStore:
    """Projects, images, assignments and votes. url: `sqlite:///file.db`, `postgresql+psycopg://...`."""

    def __init__(self, url: str) -> None:
        try:
            self.engine = sa.create_engine(url, pool_pre_ping=True)
            if self.engine.dialect.name == "sqlite":
                sa.event.listen(self.engine, "connect", set_up_sqlite)
                sa.event.listen(self.engine, "begin", begin_immediately)
            self.create_tables()
        except (sa.exc.ArgumentError, sa.exc.OperationalError, ImportError) as error:
            fix = "give sqlite:///votes.db, or postgresql+psycopg://user@host/name of a server that runs"
            raise InputError(Problem("annotation database", f"cannot be opened: {error}", fix=fix)) from error

    def create_tables(self) -> None:
        """Creates what is not there yet. Of two servers that start on an empty PostgreSQL database one is refused, and looks again."""
        try:
            METADATA.create_all(self.engine)
        except (sa.exc.ProgrammingError, sa.exc.IntegrityError):
            METADATA.create_all(self.engine)

    def create_project(self, project: Project, images: dict[str, bytes]) -> None:
        """Stores a project and its images at once. Raises InputError when the name is taken or an image is missing."""
        if missing := sorted(item.key for item in project.items if item.key not in images):
            raise InputError(Problem("project.items", "needs an image file for every item", missing[:5], "add the files"))
        rows = [{"project": project.name, "item": item.key, "data": images[item.key]} for item in project.items]
        try:
            with self.engine.begin() as connection:
                connection.execute(PROJECTS.insert().values(name=project.name, tree=project.model_dump_json(), created=time.time()))
                connection.execute(IMAGES.insert(), rows)
        except sa.exc.IntegrityError as error:
            raise InputError(Problem("project.name", "is taken", project.name, "choose another name")) from error

    def project(self, name: str) -> Project:
        """A project. Raises InputError when there is none."""
        with self.engine.connect() as connection:
            return read_project(connection, name)

    def assign(self, project: str, annotator: str, items: tuple[str, ...] | None = None) -> Assignment:
        """The annotator's assignment in a project; made on first call, the same one after. items: the images of their tournament."""
        identity = question_key("assignment", project, annotator)
        with self.engine.begin() as connection:
            found = connection.execute(sa.select(ASSIGNMENTS.c.tree).where(ASSIGNMENTS.c.id == identity)).scalar()
            if found is not None:
                return Assignment.model_validate_json(found)
            known = read_project(connection, project).ranked
            if unknown := sorted(set(items or ()) - set(known)):
                raise InputError(Problem("assignment.items", "must be rated items of the project", unknown[:5]))
            made = Assignment(id=identity, project=project, annotator=annotator, items=items or known, seed=int(identity[:7], 16))
            connection.execute(ASSIGNMENTS.insert().values(id=identity, project=project, tree=made.model_dump_json(), revision=0))
            return made

    def assignments(self, project: str) -> list[Assignment]:
        """Assignments of a project, by annotator."""
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(ASSIGNMENTS.c.tree).where(ASSIGNMENTS.c.project == project)).scalars()
            return sorted((Assignment.model_validate_json(row) for row in rows), key=lambda one: one.annotator)

    def view(self, assignment: str) -> View:
        """Where an annotator stands. Raises InputError for an assignment that does not exist."""
        with self.engine.connect() as connection:
            return read_view(connection, assignment)

    def vote(self, assignment: str, question: str, revision: int, answer: str) -> bool:
        """Stores an answer to the question now open. False, and nothing changes, when the page was made at another revision.

        Raises InputError for a question that is not open or an answer that it does not have.
        """
        with self.turn(assignment, revision) as (connection, view):
            if view is None:
                return False
            asked = view.position.question
            if asked is None or asked.key != question:
                raise InputError(Problem("vote.question", "was not asked", question, "reload the page"))
            if not is_answer(answer, asked.images):
                raise InputError(Problem("vote.answer", "must be one of the images shown, or pass/fail per dimension", answer))
            row = {"assignment": assignment, "question": question, "revision": revision, "images": json.dumps(asked.images)}
            connection.execute(VOTES.insert().values(**row, answer=answer, created=time.time()))
        return True

    def undo(self, assignment: str, revision: int) -> bool:
        """Takes back the last vote (it stays on record as undone). False when there is none or the page is old."""
        with self.turn(assignment, revision) as (connection, view):
            # A failed calibration test is final: taking answers back would be a second try.
            votes = read_votes(connection, assignment) if view is not None and not view.position.failed else []
            if not votes:
                return False
            last = votes[-1]
            connection.execute(UNDONE.insert().values(assignment=assignment, revision=revision, vote=json.dumps(last.__dict__)))
            connection.execute(VOTES.delete().where(VOTES.c.assignment == assignment, VOTES.c.question == last.question))
        return True

    @contextmanager
    def turn(self, assignment: str, revision: int) -> Iterator[tuple[Connection, View | None]]:
        """A transaction that owns the step from `revision` to the next; the view is None for whoever comes second."""
        with self.engine.begin() as connection:
            moved = connection.execute(
                ASSIGNMENTS.update().where(ASSIGNMENTS.c.id == assignment, ASSIGNMENTS.c.revision == revision).values(revision=revision + 1)
            )
            yield connection, read_view(connection, assignment) if moved.rowcount == 1 else None

    def votes(self, assignment: str) -> list[Vote]:
        """Votes that stand, in the order they were given."""
        with self.engine.connect() as connection:
            return read_votes(connection, assignment)

    def withdrawn(self, assignment: str) -> dict[str, int]:
        """Deleted images of an assignment and the tournament round each was deleted in."""
        with self.engine.connect() as connection:
            return read_withdrawn(connection, assignment)

    def image(self, project: str, item: str) -> bytes | None:
        """An image's bytes; None after it was deleted."""
        with self.engine.connect() as connection:
            query = sa.select(IMAGES.c.data).where(IMAGES.c.project == project, IMAGES.c.item == item)
            data = connection.execute(query).scalar()
            return None if data is None else bytes(data)

    def delete_image(self, project: str, item: str) -> None:
        """Deletes an image; open questions about it are void, votes already given stand. Pages made before this are out of date."""
        with self.engine.begin() as connection:
            if read_project(connection, project).kind != "tournament":
                rounds = dict.fromkeys(read_ids(connection, project), 0)
            else:
                rounds = {identity: current_round(read_view(connection, identity)) for identity in read_ids(connection, project)}
            connection.execute(IMAGES.delete().where(IMAGES.c.project == project, IMAGES.c.item == item))
            for identity, number in rounds.items():
                connection.execute(WITHDRAWN.insert().values(assignment=identity, item=item, round=number))
            connection.execute(ASSIGNMENTS.update().where(ASSIGNMENTS.c.project == project).values(revision=ASSIGNMENTS.c.revision + 1))


def is_answer(answer: str, images: tuple[str, ...]) -> bool:
    """Whether an answer fits the images shown: one of two, or the form's JSON of seven booleans."""
    if len(images) == 2:
        return answer in images
    try:
        tree = json.loads(answer)
    except ValueError:
        return False
    return isinstance(tree, dict) and set(tree) == set(DIMENSIONS) and all(isinstance(value, bool) for value in tree.values())


def current_round(view: View) -> int:
    """Tournament round an annotator is in; past every round once the work is done."""
    question = view.position.question
    if question is None:
        return 10**6
    return question.round if question.stage == "work" else 0


def read_project(connection: Connection, name: str) -> Project:
    """Raises InputError when there is none of this name."""
    tree = connection.execute(sa.select(PROJECTS.c.tree).where(PROJECTS.c.name == name)).scalar()
    if tree is None:
        names = connection.execute(sa.select(PROJECTS.c.name)).scalars().all()
        raise InputError(Problem("project", "does not exist", name, f"projects: {', '.join(names) or 'none yet'}"))
    return Project.model_validate_json(tree)


def read_ids(connection: Connection, project: str) -> list[str]:
    """Assignments of a project."""
    return list(connection.execute(sa.select(ASSIGNMENTS.c.id).where(ASSIGNMENTS.c.project == project)).scalars())


def read_votes(connection: Connection, assignment: str) -> list[Vote]:
    """Votes in the order of their revisions."""
    query = sa.select(VOTES).where(VOTES.c.assignment == assignment).order_by(VOTES.c.revision)
    return [Vote(row.question, tuple(json.loads(row.images)), row.answer, row.revision, row.created) for row in connection.execute(query)]


def read_withdrawn(connection: Connection, assignment: str) -> dict[str, int]:
    """Deleted image -> round."""
    query = sa.select(WITHDRAWN.c.item, WITHDRAWN.c.round).where(WITHDRAWN.c.assignment == assignment)
    return {row.item: row.round for row in connection.execute(query)}


def read_view(connection: Connection, assignment: str) -> View:
    """Project, assignment, position and revision, read in one transaction."""
    row = connection.execute(sa.select(ASSIGNMENTS).where(ASSIGNMENTS.c.id == assignment)).first()
    if row is None:
        raise InputError(Problem("assignment", "does not exist", assignment, "ask for a new link"))
    found = Assignment.model_validate_json(row.tree)
    project = read_project(connection, found.project)
    answers = {vote.question: vote.answer for vote in read_votes(connection, assignment)}
    withdrawn = read_withdrawn(connection, assignment)
    return View(project, found, position(project, found, answers, withdrawn, withdrawn), row.revision)


def set_up_sqlite(connection: Any, _: Any) -> None:
    """WAL with a sync at every commit: an answered vote survives the process and the machine. Waits for a second server's turn."""
    connection.isolation_level = None  # SQLAlchemy's begin event opens transactions instead of the driver
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=20000", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def begin_immediately(connection: Connection) -> None:
    """Takes the write lock before reading, so that two servers never decide on the same state."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
