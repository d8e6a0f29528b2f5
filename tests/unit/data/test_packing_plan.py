"""What an epoch holds and how it is shared among packs and ranks."""

from __future__ import annotations

import numpy as np
import pytest

from imagewright.data.packing_plan import choose_captions, deal, draw, draw_edges, hierarchical_weights, pack_window, stream, window_bounds


def costs_like_a_stage(side_tokens: int, num: int = 2048, seed: int = 0) -> list[int]:
    random = np.random.default_rng(seed)
    return (side_tokens * random.uniform(0.9, 1.1, num) + random.integers(16, 513, num)).astype(int).tolist()


def draw_epoch(weights: np.ndarray, seed: int, epoch: int, digest: str) -> np.ndarray:  # type: ignore[type-arg]
    return draw(draw_edges(weights), seed, epoch, digest, 0, len(weights))


def test_any_part_of_the_draw_list_is_the_same_without_the_rest() -> None:
    edges = draw_edges(np.random.default_rng(0).exponential(1.0, 999))
    whole = draw(edges, 0, 0, "d", 0, 999)
    assert np.array_equal(draw(edges, 0, 0, "d", 500, 700), whole[500:700])


@pytest.mark.parametrize("num", [1, 2, 3, 5, 64, 1000])
def test_every_length_is_permuted(num: int) -> None:
    assert sorted(draw_epoch(np.ones(num), 0, 0, "d").tolist()) == list(range(num))


def test_the_order_looks_random() -> None:
    drawn = draw_epoch(np.ones(4096), 0, 0, "d").astype(float)
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.05
    assert abs(np.corrcoef(drawn, np.arange(4096))[0, 1]) < 0.05


def test_equal_weights_give_every_sample_exactly_once() -> None:
    drawn = draw_epoch(np.ones(1000), 0, 0, "d")
    assert sorted(drawn.tolist()) == list(range(1000))


def test_counts_stay_within_one_of_the_weights_and_the_list_keeps_its_length() -> None:
    weights = np.random.default_rng(0).exponential(1.0, 5000)
    counts = np.bincount(draw_epoch(weights, 0, 3, "d"), minlength=5000)
    expected = weights / weights.sum() * 5000
    assert counts.sum() == 5000
    assert np.abs(counts - expected).max() < 1 + 1e-6


def test_a_sample_of_weight_zero_is_never_drawn() -> None:
    weights = np.array([1.0, 0.0, 2.0, 0.0])
    for epoch in range(20):
        assert set(draw_epoch(weights, 1, epoch, "d").tolist()) <= {0, 2}


def test_the_draw_depends_on_seed_epoch_and_data_and_on_nothing_else() -> None:
    weights = np.ones(64)
    first = draw_epoch(weights, 0, 0, "d")
    assert np.array_equal(first, draw_epoch(weights, 0, 0, "d"))
    for other in (draw_epoch(weights, 1, 0, "d"), draw_epoch(weights, 0, 1, "d"), draw_epoch(weights, 0, 0, "e")):
        assert not np.array_equal(first, other)


def test_category_power_moves_shares_between_categories_not_inside_them() -> None:
    weights, categories = np.array([8.0, 24.0, 2.0]), np.array([0, 0, 1])
    assert np.allclose(hierarchical_weights(weights, categories, 1.0), weights)
    flat = hierarchical_weights(weights, categories, 0.0)
    assert np.allclose(flat, [0.25, 0.75, 1.0])
    assert np.allclose(hierarchical_weights(weights, categories, 0.5)[2], 2**0.5)


def test_a_category_without_weight_stays_out() -> None:
    assert hierarchical_weights(np.array([0.0, 1.0]), np.array([0, 1]), 0.0).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(("side_tokens", "budget"), [(256, 16384), (1024, 16384), (4096, 65536)])
def test_packs_are_filled_to_97_percent_of_the_best_possible_and_hold_every_entry_once(side_tokens: int, budget: int) -> None:
    costs = costs_like_a_stage(side_tokens)
    packs = pack_window(costs, budget)
    assert sorted(position for pack in packs for position in pack) == list(range(len(costs)))
    loads = [sum(costs[position] for position in pack) for pack in packs]
    assert max(loads) <= budget
    fewest = -(-sum(costs) // budget)
    assert fewest / len(packs) >= 0.97
    assert max(loads) / (sum(loads) / len(loads)) <= 1.03


def test_eight_ranks_that_share_consecutive_packs_are_within_3_percent() -> None:
    for seed in range(4):
        costs = costs_like_a_stage(1024, seed=seed)
        loads = [sum(costs[position] for position in pack) for pack in pack_window(costs, 16384)]
        assert max(loads) <= 16384
        for first in range(0, len(loads) - 8, 8):
            step = loads[first : first + 8]
            assert max(step) / (sum(step) / 8) - 1 <= 0.03


def test_samples_larger_than_half_a_pack_get_one_each() -> None:
    assert pack_window([60, 55, 51], 100) == [[0], [1], [2]]


def test_an_entry_that_just_fits_is_packed() -> None:
    assert pack_window([100, 1], 100) == [[0], [1]]


def test_the_step_is_dealt_in_equal_counts_and_near_equal_tokens() -> None:
    hands = deal([10, 9, 5, 4, 8, 7], 2)
    assert sorted(pack for hand in hands for pack in hand) == list(range(6))
    assert {len(hand) for hand in hands} == {3}
    costs = [10, 9, 5, 4, 8, 7]
    loads = [sum(costs[pack] for pack in hand) for hand in hands]
    assert abs(loads[0] - loads[1]) <= 1


def test_windows_cover_the_epoch_and_a_short_rest_joins_the_last() -> None:
    assert window_bounds(10, 4) == [(0, 4), (4, 10)]
    assert window_bounds(3, 4) == [(0, 3)]
    assert window_bounds(8, 4) == [(0, 4), (4, 8)]


def test_captions_follow_the_weights_of_their_forms_and_dropout() -> None:
    num = 20000
    first, counts = np.arange(num) * 3, np.full(num, 3)
    weights = np.tile([1.0, 3.0, 0.0], num)
    chosen = choose_captions(first, counts, weights, 0.1, stream("t"))
    shares = np.bincount(chosen + 1, minlength=4) / num
    assert np.allclose(shares, [0.1, 0.9 * 0.25, 0.9 * 0.75, 0.0], atol=0.01)
    assert shares[3] == 0


def test_a_sample_whose_forms_all_weigh_nothing_still_has_a_caption() -> None:
    chosen = choose_captions(np.array([0, 2]), np.array([2, 1]), np.zeros(3), 0.0, stream("t"))
    assert 0 <= chosen[0] <= 1
    assert chosen[1] == 0


def test_no_dropout_and_full_dropout() -> None:
    first, counts, weights = np.zeros(50, dtype=np.int64), np.ones(50, dtype=np.int64), np.ones(1)
    assert (choose_captions(first, counts, weights, 0.0, stream("t")) == 0).all()
    assert (choose_captions(first, counts, weights, 1.0, stream("t")) == -1).all()
