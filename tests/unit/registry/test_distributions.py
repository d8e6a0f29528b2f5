"""Shift measures against numbers worked out by hand."""

from __future__ import annotations

import math

import duckdb
import pytest

from imagewright.registry.distributions import MIN_SHARE, categorical_shift, jensen_shannon, numeric_shift, population_stability_index


def test_jensen_shannon_is_zero_for_the_same_shares_and_one_for_nothing_in_common() -> None:
    assert jensen_shannon([10, 30], [1, 3]) == 0.0
    assert jensen_shannon([5, 0], [0, 7]) == 1.0
    assert jensen_shannon([], []) == 0.0
    assert jensen_shannon([0], [3]) == 1.0


def test_jensen_shannon_by_hand() -> None:
    # p = (1/2, 1/2), q = (1, 0), m = (3/4, 1/4): JS = H(m) - H(p) / 2 = 0.811278 - 0.5.
    assert jensen_shannon([1, 1], [1, 0]) == pytest.approx(0.311278, abs=1e-6)


def test_the_stability_index_by_hand() -> None:
    # (0.4 - 0.6) ln(0.4 / 0.6) + (0.6 - 0.4) ln(0.6 / 0.4) = 0.4 ln 1.5
    assert population_stability_index([6, 4], [4, 6]) == pytest.approx(0.4 * math.log(1.5))
    assert population_stability_index([5, 5], [50, 50]) == 0.0


def test_an_empty_bin_counts_as_the_smallest_share() -> None:
    expected = (1 - 0.5) * math.log(1 / 0.5) + (MIN_SHARE - 0.5) * math.log(MIN_SHARE / 0.5)
    assert population_stability_index([1, 1], [1, 0]) == pytest.approx(expected)


def test_categories_tell_the_largest_moves_first() -> None:
    with duckdb.connect() as database:
        database.execute("CREATE TABLE before_kept AS SELECT unnest(['cat', 'cat', 'dog', NULL]) AS category")
        database.execute("CREATE TABLE after_kept AS SELECT unnest(['cat', 'dog', 'dog', 'dog']) AS category")
        shift = categorical_shift(database, "category", "category")
    assert shift.values == (("dog", 1, 3), ("", 1, 0), ("cat", 2, 1))
    assert (shift.num_values, shift.total_before, shift.total_after) == (3, 4, 4)
    assert shift.divergence == pytest.approx(jensen_shannon([1, 2, 1], [0, 1, 3]))


def test_numbers_tell_means_quantiles_and_the_move_between_deciles() -> None:
    with duckdb.connect() as database:
        database.execute("CREATE TABLE before_kept AS SELECT i::FLOAT AS score FROM range(1, 101) t(i) UNION ALL SELECT NULL")
        database.execute("CREATE TABLE after_kept AS SELECT (i + 10)::FLOAT AS score FROM range(1, 101) t(i) UNION ALL SELECT 'nan'::FLOAT")
        shift = numeric_shift(database, "score", "score")
    assert shift is not None
    assert (shift.count_before, shift.count_after) == (100, 100)
    assert (shift.mean_before, shift.mean_after) == (50.5, 60.5)
    assert shift.quantiles_before[2] == 50.5
    assert shift.quantiles_after == pytest.approx([value + 10 for value in shift.quantiles_before])
    # Ten to a bin before; after, the first bin is empty and the last holds twenty.
    expected = (MIN_SHARE - 0.1) * math.log(MIN_SHARE / 0.1) + (0.2 - 0.1) * math.log(2)
    assert shift.stability_index == pytest.approx(expected)


def test_a_column_of_one_value_has_not_moved() -> None:
    with duckdb.connect() as database:
        for side in ("before", "after"):
            database.execute(f"CREATE TABLE {side}_kept AS SELECT 0.5::FLOAT AS score FROM range(9)")  # noqa: S608 - fixed words
        shift = numeric_shift(database, "score", "score")
        assert shift is not None
        assert shift.stability_index == 0.0
        database.execute("DELETE FROM after_kept")
        assert numeric_shift(database, "score", "score") is None
