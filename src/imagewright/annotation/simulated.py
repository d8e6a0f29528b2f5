"""Annotators who exist only in code: they prefer the image of higher known quality and err at a known rate.

Everything that comes from them carries the origin `simulated`; it stands in for people where nobody has voted.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from imagewright.annotation.tournament import Game, Result, Tournament, tiers

ORIGIN: Final = "simulated"


@dataclass
class SimulatedAnnotator:
    """Answers comparisons from known qualities (0 to 100).

    flip: share of answers that are reversed whatever the difference. blur: quality difference at which a choice is made with odds
    e : 1 (logistic); 0 sees every difference. lazy: always picks the left image.
    """

    qualities: Mapping[str, float]
    flip: float = 0.0
    blur: float = 0.0
    lazy: bool = False
    seed: int = 0
    random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def choose(self, first: str, second: str) -> str:
        """The preferred one of two images; `first` is shown on the left."""
        if self.lazy:
            return first
        difference = self.qualities[first] - self.qualities[second]
        if self.blur > 0:
            prefers_first = self.random.random() < 1 / (1 + math.exp(-max(-50.0, min(50.0, difference / self.blur))))
        else:
            prefers_first = difference > 0 or (difference == 0 and self.random.random() < 0.5)
        if self.random.random() < self.flip:
            prefers_first = not prefers_first
        return first if prefers_first else second


@dataclass(frozen=True)
class Judged:
    """What a finished tournament leaves: a tier per image and the decided games."""

    tiers: dict[str, int]
    results: list[Result]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(winner, loser) of every game that was not a bye."""
        return [(result.winner, loser(result)) for result in self.results if not result.game.is_bye]


def loser(result: Result) -> str:
    """The item that was not preferred."""
    game: Game = result.game
    return game.second if result.winner == game.first else game.first


def hold_tournament(tournament: Tournament, annotator: SimulatedAnnotator) -> Judged:
    """Plays every round with one annotator."""
    winners: dict[tuple[str, str], str] = {}
    while True:
        results, open_games = tournament.replay(winners)
        if not open_games:
            return Judged(tiers(tournament.items, results), results)
        for game in open_games:
            winners[game.first, game.second] = annotator.choose(game.first, game.second)


def subsets(keys: Sequence[str], size: int, seed: int) -> list[list[str]]:
    """Splits keys at random into subsets of about `size` (none below half of it, unless there are too few keys)."""
    shuffled = list(keys)
    random.Random(seed).shuffle(shuffled)
    count = max(1, round(len(shuffled) / size))
    return [shuffled[part::count] for part in range(count)]
