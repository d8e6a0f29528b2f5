"""What a tournament promises to whoever holds it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from imagewright.annotation.simulated import SimulatedAnnotator, hold_tournament
from imagewright.annotation.tournament import Game, Result, Tournament, TournamentError, num_rounds, standings, tier_score, tiers


def names(count: int) -> tuple[str, ...]:
    return tuple(f"image-{place:03d}" for place in range(count))


def by_place(items: tuple[str, ...]) -> dict[str, float]:
    return {item: float(place) for place, item in enumerate(items)}


@pytest.mark.parametrize(("items", "rounds"), [(2, 1), (3, 3), (4, 3), (5, 5), (16, 6), (17, 7), (256, 10)])
def test_rounds_are_log2_plus_two_but_never_force_a_rematch(items: int, rounds: int) -> None:
    assert num_rounds(items) == rounds


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_images_are_refused(count: int) -> None:
    with pytest.raises(TournamentError, match=r"tournament\.items: needs at least 2"):
        Tournament(names(count))


def test_repeated_images_and_impossible_rounds_are_refused() -> None:
    with pytest.raises(TournamentError, match="unique"):
        Tournament(("a", "a", "b"))
    assert Tournament(names(4), rounds=3).total_rounds == 3
    with pytest.raises(TournamentError, match="rematches"):
        Tournament(names(4), rounds=4)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(2, 40), seed=st.integers(0, 100))
def test_no_pair_meets_twice_and_byes_are_spread(count: int, seed: int) -> None:
    items = names(count)
    judged = hold_tournament(Tournament(items, seed), SimulatedAnnotator(by_place(items), flip=0.2, seed=seed))
    met = Counter(frozenset((r.game.first, r.game.second)) for r in judged.results if not r.game.is_bye)
    assert max(met.values()) == 1
    played = Counter(r.game.round for r in judged.results)
    assert set(played) == set(range(num_rounds(count)))
    if count >= 16 and count % 2:
        assert max(Counter(r.game.first for r in judged.results if r.game.is_bye).values()) == 1
    assert set(judged.tiers) == set(items)


def test_standings_break_ties_by_the_strength_of_opponents() -> None:
    games = [("a", "b", "a"), ("c", "d", "c"), ("a", "c", "a"), ("b", "d", "b")]
    results = [Result(Game(place // 2, first, second), winner) for place, (first, second, winner) in enumerate(games)]
    table = standings("abcd", results)
    assert [(row.item, row.score, row.buchholz) for row in table] == [("a", 2, 2), ("b", 1, 2), ("c", 1, 2), ("d", 0, 2)]
    more = [*results, Result(Game(2, "b", "a"), "a"), Result(Game(2, "c", "d"), "c")]
    assert [row.item for row in standings("abcd", more)] == ["a", "c", "b", "d"]


def test_a_bye_is_half_a_point_and_no_game() -> None:
    row = standings(["a"], [Result(Game(0, "a", ""), "")])[0]
    assert (row.score, row.games, row.buchholz) == (0.5, 0, 0.0)


def test_tiers_run_from_one_to_ten_in_equal_shares() -> None:
    items = names(40)
    judged = hold_tournament(Tournament(items), SimulatedAnnotator(by_place(items)))
    assert Counter(judged.tiers.values()) == dict.fromkeys(range(1, 11), 4)
    assert judged.tiers[items[-1]] == 10 and judged.tiers[items[0]] == 1
    assert (tier_score(1), tier_score(10)) == (5.0, 95.0)


def test_two_images_get_tiers_apart() -> None:
    results = [Result(Game(0, "a", "b"), "b")]
    assert tiers(["a", "b"], results) == {"a": 3, "b": 8}


def test_noisy_annotator_is_ranked_well_within_ten_comparisons_an_image() -> None:
    items = names(128)
    judged = hold_tournament(Tournament(items, 3), SimulatedAnnotator(by_place(items), flip=0.1, seed=3))
    assert 2 * len(judged.pairs) / 128 <= 10
    assert spearmanr(range(128), [judged.tiers[item] for item in items])[0] >= 0.85


def test_votes_alone_rebuild_the_tournament() -> None:
    tournament = Tournament(names(6), seed=4)
    _, first = tournament.replay({})
    winners = {(game.first, game.second): game.first for game in first}
    assert tournament.replay(winners) == tournament.replay(dict(winners))
    results, second = tournament.replay(winners)
    assert len(results) == 3 and {game.round for game in second} == {1}


def test_deleted_image_is_paired_no_more_and_other_votes_stand() -> None:
    tournament = Tournament(names(8), seed=1)
    _, games = tournament.replay({})
    decided, gone = games[0], games[1].first
    winners = {(decided.first, decided.second): decided.second}
    _, still_open = tournament.replay(winners, {gone: 0})
    assert still_open == games[2:]
    winners |= {(game.first, game.second): game.first for game in still_open}
    results, later = tournament.replay(winners, {gone: 0})
    assert sum(not result.game.is_bye for result in results) == 3
    assert all(gone not in (game.first, game.second) for game in later)
    assert {game.round for game in later} == {1}
