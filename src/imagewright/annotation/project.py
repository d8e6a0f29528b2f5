"""What people are asked: a project of images and one question, and the next question of one annotator's assignment.

The next question is a function of the project, the assignment and the votes so far; nothing else is remembered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from imagewright.annotation.calibration import DEFAULT_THRESHOLD, CalibrationResult, gold_questions, judge_calibration
from imagewright.annotation.tournament import Tournament
from imagewright.config.base import Section

DIMENSIONS = ("spatial", "world", "physics", "aesthetics", "style", "creativity", "knowledge")
"""The seven pass/fail dimensions of the ERNIE-Image report, table 3."""

MAX_PROMPT_CHARS = 10_000
Kind = Literal["tournament", "preference", "form"]
QUESTIONS: Mapping[Any, str] = {
    "tournament": "Which one looks more pleasing?",
    "preference": "Which picture do you prefer for this prompt?",
    "form": "Does the picture pass in each of these?",
}


class Item(Section):
    """One image of a project."""

    key: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    """Permanent name, also used in addresses and exports."""
    prompt: str = Field(default="", max_length=MAX_PROMPT_CHARS)
    """Shown with the image in preference votes and the form."""
    category: str = ""
    """Kept for the export; not shown."""


class Project(Section):
    """A question about images."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    """Permanent name."""
    kind: Kind
    """`tournament`: aesthetic tiers. `preference`: given pairs. `form`: pass or fail in seven dimensions."""
    question: str = Field(min_length=1, max_length=300)
    """The only line of instruction on the page; without one it is the usual question of the kind."""
    items: tuple[Item, ...] = Field(min_length=1)
    """Images."""
    pairs: tuple[tuple[str, str], ...] = ()
    """Pairs to vote on (preference)."""
    gold: tuple[tuple[str, str], ...] = ()
    """(better, worse) pairs of the calibration test; none skips the test."""
    threshold: float = Field(default=DEFAULT_THRESHOLD, gt=0.5, le=1.0)
    """Agreement with the gold pairs needed to pass."""

    @model_validator(mode="before")
    @classmethod
    def ask_something(cls, tree: Any) -> Any:
        """Fills in the question of the kind."""
        if isinstance(tree, dict) and "question" not in tree:
            return {**tree, "question": QUESTIONS.get(tree.get("kind"), "")}
        return tree

    @model_validator(mode="after")
    def check_keys(self) -> Self:
        """Refuses doubled keys, unknown names in pairs, and kinds without work."""
        keys = [item.key for item in self.items]
        if len(set(keys)) != len(keys):
            raise ValueError("every item needs its own key")
        named = {key for pair in (*self.pairs, *self.gold) for key in pair}
        if unknown := sorted(named - set(keys)):
            raise ValueError(f"pairs and gold name items that do not exist: {unknown[:5]}")
        if any(first == second for first, second in (*self.pairs, *self.gold)):
            raise ValueError("an image cannot be compared with itself")
        if (self.kind == "preference") != bool(self.pairs):
            raise ValueError("pairs belong to kind: preference, which needs at least one")
        if self.kind == "tournament" and len(self.ranked) < 2:
            raise ValueError("a tournament needs at least 2 images beside the gold ones")
        return self

    @property
    def ranked(self) -> tuple[str, ...]:
        """Items that are rated: all but those of the calibration test."""
        gold = {key for pair in self.gold for key in pair}
        return tuple(item.key for item in self.items if item.key not in gold)

    def item(self, key: str) -> Item:
        """The item of a key."""
        return next(item for item in self.items if item.key == key)


class Assignment(Section):
    """One annotator's work: a whole tournament of their own, or all pairs or forms."""

    id: str
    project: str
    annotator: str
    items: tuple[str, ...]
    seed: int = 0


@dataclass(frozen=True)
class Question:
    """What to show now. images: two keys (left, right), or one for the form."""

    key: str
    stage: Literal["calibration", "work"]
    images: tuple[str, ...]
    round: int = 0


@dataclass(frozen=True)
class Position:
    """Where an annotator stands. question is None when the work is done or the calibration was failed."""

    question: Question | None
    done: int
    total: int
    calibration: CalibrationResult | None = None

    @property
    def failed(self) -> bool:
        """Whether the calibration test was taken and not passed."""
        return self.calibration is not None and not self.calibration.passed


def question_key(*parts: object) -> str:
    """Short permanent name of a question."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:24]


def position(
    project: Project, assignment: Assignment, answers: Mapping[str, str], withdrawn: Mapping[str, int], missing: Collection[str] = ()
) -> Position:
    """The next question. answers: question key -> image preferred, or the form's JSON. withdrawn: see Tournament.replay.

    missing: images that no longer exist; pairs and forms about them are left out.
    """
    gold = gold_questions(project.gold, assignment.seed)
    gold_keys = [question_key("gold", place, one.first, one.second) for place, one in enumerate(gold)]
    for place, (key, one) in enumerate(zip(gold_keys, gold, strict=True)):
        if key not in answers:
            return Position(Question(key, "calibration", (one.first, one.second)), place, len(gold))
    calibration = judge_calibration(gold, [answers[key] for key in gold_keys], project.threshold) if gold else None
    if calibration is not None and not calibration.passed:
        return Position(None, len(gold), len(gold), calibration)
    if project.kind == "tournament":
        return tournament_position(assignment, answers, withdrawn, calibration)
    questions = [one for one in fixed_questions(project, assignment) if not set(one.images) & set(missing)]
    open_ones = [one for one in questions if one.key not in answers]
    return Position(open_ones[0] if open_ones else None, len(questions) - len(open_ones), len(questions), calibration)


def fixed_questions(project: Project, assignment: Assignment) -> list[Question]:
    """All pairs, or one form per image, in an order of the assignment's own; sides are drawn by hash so that none is favoured."""
    if project.kind == "form":
        found = [Question(question_key("form", key), "work", (key,)) for key in project.ranked]
    else:
        found = []
        for first, second in project.pairs:
            turned = int(question_key("side", assignment.seed, first, second), 16) % 2
            sides = (second, first) if turned else (first, second)
            found.append(Question(question_key("pair", first, second), "work", sides))
    return sorted(found, key=lambda one: question_key("order", assignment.seed, one.key))


def game_key(round_number: int, first: str, second: str) -> str:
    """Key of a tournament game."""
    return question_key("game", round_number, first, second)


def winners_of(assignment: Assignment, answers: Mapping[str, str], withdrawn: Mapping[str, int]) -> dict[tuple[str, str], str]:
    """Decided games of a tournament, found by replaying it round by round."""
    tournament = Tournament(assignment.items, assignment.seed)
    winners: dict[tuple[str, str], str] = {}
    while True:
        _, games = tournament.replay(winners, withdrawn)
        decided = {
            (game.first, game.second): answers[key] for game in games if (key := game_key(game.round, game.first, game.second)) in answers
        }
        if not decided:
            return winners
        winners |= decided


def tournament_position(
    assignment: Assignment, answers: Mapping[str, str], withdrawn: Mapping[str, int], calibration: CalibrationResult | None
) -> Position:
    """The first open game of the current round."""
    tournament = Tournament(assignment.items, assignment.seed)
    winners = winners_of(assignment, answers, withdrawn)
    _, games = tournament.replay(winners, withdrawn)
    total = tournament.total_rounds * (len(assignment.items) // 2)
    if not games:
        return Position(None, len(winners), len(winners), calibration)
    game = games[0]
    question = Question(game_key(game.round, game.first, game.second), "work", (game.first, game.second), game.round)
    return Position(question, len(winners), max(total, len(winners) + 1), calibration)
