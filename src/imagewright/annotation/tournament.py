"""The Swiss-system tournament: pairs images of similar standing, round by round, and turns the results into tiers 1 to 10.

Everything is a function of (items, results, seed), so a tournament is rebuilt from its votes alone. One annotator judges a whole
tournament; tournaments are pooled as data, never as games.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from imagewright.errors import InputError, Problem

NUM_TIERS = 10
EXTRA_ROUNDS = 2
BYE_POINTS = 0.5
"""Half a point: a bye says nothing about the image, and a whole point would lift the weakest ones a tier."""


class TournamentError(InputError):
    """Items no tournament can be held with."""


@dataclass(frozen=True)
class Game:
    """One comparison of a round. second is empty for a bye."""

    round: int
    first: str
    second: str

    @property
    def is_bye(self) -> bool:
        """Whether `first` sits this round out."""
        return not self.second


@dataclass(frozen=True)
class Result:
    """A decided game."""

    game: Game
    winner: str
    """Item preferred; empty for a bye."""


@dataclass(frozen=True)
class Standing:
    """One item's place. score: wins plus half a point a bye. buchholz: sum of its opponents' scores."""

    item: str
    score: float
    buchholz: float
    beaten: float
    """Sum of the scores of the opponents it beat (Sonneborn-Berger), the second tie-break."""
    games: int


def num_rounds(num_items: int) -> int:
    """ceil(log2 N) + 2, and never more than can be paired without rematches (N - 1, or N with byes). Raises TournamentError below 2."""
    if num_items < 2:
        raise TournamentError(Problem("tournament.items", "needs at least 2 images", num_items, "add images"))
    return min(math.ceil(math.log2(num_items)) + EXTRA_ROUNDS, num_items - 1 + num_items % 2)


def check_items(items: Sequence[str]) -> None:
    """Raises TournamentError for fewer than 2 items, doubles and empty names."""
    num_rounds(len(items))
    if len(set(items)) != len(items) or "" in items:
        doubles = sorted({item for item in items if items.count(item) > 1})[:5]
        raise TournamentError(Problem("tournament.items", "must be unique, non-empty keys", doubles, "give every image its own key"))


def standings(items: Iterable[str], results: Iterable[Result]) -> list[Standing]:
    """Items from best to worst by score, Buchholz, Sonneborn-Berger; ties in key order."""
    score: dict[str, float] = dict.fromkeys(items, 0.0)
    opponents: dict[str, list[str]] = defaultdict(list)
    beaten: dict[str, list[str]] = defaultdict(list)
    for result in results:
        game = result.game
        if game.is_bye:
            score[game.first] = score.get(game.first, 0.0) + BYE_POINTS
            continue
        loser = game.second if result.winner == game.first else game.first
        score[result.winner] = score.get(result.winner, 0.0) + 1.0
        score.setdefault(loser, 0.0)
        opponents[game.first].append(game.second)
        opponents[game.second].append(game.first)
        beaten[result.winner].append(loser)
    table = [
        Standing(
            item,
            points,
            sum(score[other] for other in opponents[item]),
            sum(score[other] for other in beaten[item]),
            len(opponents[item]),
        )
        for item, points in score.items()
    ]
    return sorted(table, key=lambda row: (-row.score, -row.buchholz, -row.beaten, row.item))


def pair_round(items: Sequence[str], results: Sequence[Result], round_number: int, seed: int) -> list[Game]:
    """Games of the next round: neighbours in the standings who have not met, sides drawn at random.

    Every item plays once, except that with an odd number the lowest item without a bye sits out. Items that have met everybody they could
    still be paired with sit out too (a bye), which happens in the last rounds of very small tournaments only.
    """
    rng = random.Random(f"{seed} {round_number}")
    met = {frozenset((result.game.first, result.game.second)) for result in results}
    byes = {result.game.first for result in results if result.game.is_bye}
    table = standings(items, results)
    shuffled = {row.item: rng.random() for row in table}
    playing = set(items)
    order = [row.item for row in sorted(table, key=lambda row: (-row.score, -row.buchholz, shuffled[row.item])) if row.item in playing]
    sitting = []
    if len(order) % 2:
        out = next((item for item in reversed(order) if item not in byes), order[-1])
        order.remove(out)
        sitting.append(out)
    pairs, unpaired = match_neighbours(order, lambda a, b: frozenset((a, b)) not in met)
    games = [Game(round_number, *((a, b) if rng.random() < 0.5 else (b, a))) for a, b in pairs]
    rng.shuffle(games)
    return games + [Game(round_number, item, "") for item in [*sitting, *unpaired]]


def match_neighbours(order: Sequence[str], may_meet: Callable[[str, str], bool]) -> tuple[list[tuple[str, str]], list[str]]:
    """Pairs each item with the nearest one below it that it may meet; leftovers are placed by re-pairing an earlier pair, nearest first.

    Returns the pairs and the items that could not be placed (an even number).
    """
    waiting = list(order)
    pairs: list[tuple[str, str]] = []
    left: list[str] = []
    while waiting:
        item = waiting.pop(0)
        place = next((i for i, other in enumerate(waiting) if may_meet(item, other)), None)
        if place is None:
            left.append(item)
        else:
            pairs.append((item, waiting.pop(place)))
    unplaced: list[str] = []
    while len(left) > 1:
        first, second = left.pop(), left.pop()
        swap = find_swap(first, second, pairs, may_meet)
        if swap is None:
            unplaced += [first, second]
        else:
            index, new_pairs = swap
            pairs[index : index + 1] = new_pairs
    return pairs, unplaced + left


def find_swap(
    first: str, second: str, pairs: Sequence[tuple[str, str]], may_meet: Callable[[str, str], bool]
) -> tuple[int, list[tuple[str, str]]] | None:
    """The last pair that can be split between two leftovers, and the two pairs that replace it; None when there is none."""
    for index in range(len(pairs) - 1, -1, -1):
        one, two = pairs[index]
        for a, b in ((one, two), (two, one)):
            if may_meet(first, a) and may_meet(second, b):
                return index, [(first, a), (second, b)]
    return None


def tiers(items: Sequence[str], results: Sequence[Result]) -> dict[str, int]:
    """Tier 1 (worst) to 10 (best) of each item: equal shares of the final standings."""
    wanted = set(items)
    order = [row.item for row in reversed(standings(items, results)) if row.item in wanted]
    return {item: min(NUM_TIERS, 1 + int((place + 0.5) / len(order) * NUM_TIERS)) for place, item in enumerate(order)}


def tier_score(tier: float) -> float:
    """Score on 0..100 that a tier stands for: 10 (tier - 0.5)."""
    return 10.0 * (tier - 0.5)


@dataclass(frozen=True)
class Tournament:
    """A tournament as its items and seed; all else follows from the results given."""

    items: tuple[str, ...]
    seed: int = 0
    rounds: int = 0
    """0 takes num_rounds(len(items))."""

    def __post_init__(self) -> None:
        check_items(self.items)
        if not 0 <= self.rounds <= len(self.items) - 1 + len(self.items) % 2:
            raise TournamentError(
                Problem("tournament.rounds", "must leave room for pairing without rematches", self.rounds, "fewer rounds or more images")
            )

    @property
    def total_rounds(self) -> int:
        """Rounds to play."""
        return self.rounds or num_rounds(len(self.items))

    def replay(self, winners: Mapping[tuple[str, str], str], withdrawn: Mapping[str, int] | None = None) -> tuple[list[Result], list[Game]]:
        """Results so far, and the games now open: all undecided games of the current round; none when the tournament is over.

        winners: (first, second) -> preferred item. withdrawn: deleted image -> the round it was deleted in: its undecided games are
        void and later rounds pair without it, so votes already given keep their place.
        """
        gone = withdrawn or {}
        results: list[Result] = []
        for number in range(self.total_rounds):
            playing = [item for item in self.items if gone.get(item, number) >= number]
            if len(playing) < 2:
                break
            games = pair_round(playing, results, number, self.seed)
            results += [Result(game, winners.get((game.first, game.second), "")) for game in games
                        if game.is_bye or (game.first, game.second) in winners]  # fmt: skip
            asked = [game for game in games if not game.is_bye and (game.first, game.second) not in winners]
            open_games = [game for game in asked if game.first not in gone and game.second not in gone]
            if open_games:
                return results, open_games
        return results, []
