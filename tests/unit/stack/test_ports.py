"""Ports: earlier ones are kept while they are free, others are found when they are not."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from imagewright.stack.ports import LOOPBACK, choose_ports, is_free


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as server:
        server.bind((LOOPBACK, 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_port_with_a_listener_is_not_free(taken: int) -> None:
    assert not is_free(taken)


def test_earlier_ports_are_kept_when_all_are_free() -> None:
    earlier = choose_ports(3)
    assert choose_ports(3, earlier) == earlier


def test_one_taken_port_moves_the_whole_server(taken: int) -> None:
    free = choose_ports(1)
    moved = choose_ports(2, (free[0], taken))
    assert taken not in moved
    assert len(set(moved)) == 2


def test_a_wrong_number_of_earlier_ports_is_not_used() -> None:
    assert len(choose_ports(4, (20_001,))) == 4
