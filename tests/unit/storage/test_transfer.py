"""Parallel work keeps its order, stops at the first failure, and draws a bar only for a person."""

from __future__ import annotations

import io
import threading
import time

import pytest
from rich.console import Console

from imagewright.storage.transfer import progress_bar, run_parallel


@pytest.mark.parametrize("num_items", [0, 1, 2, 1000])
@pytest.mark.parametrize("num_workers", [1, 8])
def test_results_come_in_the_order_of_the_items(num_items: int, num_workers: int) -> None:
    assert run_parallel(lambda item: item * 2, list(range(num_items)), num_workers) == [item * 2 for item in range(num_items)]


def test_the_first_failure_stops_what_has_not_begun() -> None:
    done, guard = [], threading.Lock()

    def work(item: int) -> None:
        if item == 0:
            raise ValueError("first")
        time.sleep(0.001)
        with guard:
            done.append(item)

    with pytest.raises(ValueError, match="first"):
        run_parallel(work, list(range(5000)), 4)
    num_done = len(done)
    time.sleep(0.02)
    assert num_done == len(done) < 4999


def test_a_bar_is_drawn_on_a_terminal_only() -> None:
    for is_terminal in (False, True):
        screen = io.StringIO()
        with progress_bar(Console(file=screen, force_terminal=is_terminal, width=80), "storing", 10) as advance:
            advance(10)
        assert ("storing" in screen.getvalue()) is is_terminal
    with progress_bar(None, "storing", 10) as advance:
        advance(10)
