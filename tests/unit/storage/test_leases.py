"""A lease has one holder at a time, outlives neither its holder nor its store, and says so when it is lost."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from imagewright.storage import Lease, LeaseLost, NameTaken, Store, StoreError, open_store
from imagewright.storage.leases import LEASE_PREFIX, MIN_TTL_SECONDS, live_pins


def test_a_held_lease_is_refused_and_a_released_one_is_free_at_once(store: Store) -> None:
    with Lease(store, "work", "first", 30) as lease:
        lease.check()
        with pytest.raises(NameTaken, match="is held by first"), Lease(store, "work", "second", 30, wait_seconds=0):
            pass
    started = time.monotonic()
    with Lease(store, "work", "second", 30, wait_seconds=5):
        assert time.monotonic() - started < 5


def test_a_heartbeat_keeps_a_lease_longer_than_its_ttl(store: Store) -> None:
    with Lease(store, "work", "first", 3) as lease:  # a beat a second: a busy machine may delay one by a second or two
        with pytest.raises(NameTaken), Lease(store, "work", "second", 3, wait_seconds=5):
            pass
        lease.check()


def test_of_many_waiters_for_an_expired_lease_exactly_one_takes_it_over(local_store: Store) -> None:
    abandon(local_store, "work", 0.5)
    holding, most, winners = 0, 0, []
    guard = threading.Lock()

    def try_once(index: int) -> None:
        nonlocal holding, most
        try:
            with Lease(local_store, "work", f"waiter {index}", 0.5, wait_seconds=1.5):
                with guard:
                    holding += 1
                    most = max(most, holding)
                    winners.append(index)
                time.sleep(2)
                with guard:
                    holding -= 1
        except NameTaken:
            pass

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(try_once, range(6)))
    assert most == 1 and len(winners) == 1


def test_the_holder_notices_that_it_was_taken_over(store: Store) -> None:
    def hold() -> None:
        with Lease(store, "work", "first", 1) as lease:
            store.put_named(LEASE_PREFIX + "work", other_entry())
            deadline = time.monotonic() + 10
            while not lease.is_lost and time.monotonic() < deadline:
                time.sleep(0.05)
            lease.check()

    with pytest.raises(LeaseLost, match="was taken over by another run"):
        hold()
    found = store.get_named(LEASE_PREFIX + "work")
    assert found is not None and found.data == other_entry()


def test_a_renewal_whose_answer_was_lost_costs_nobody_the_lease(local_store: Store) -> None:
    with Lease(local_store, "work", "first", 0.4) as lease:
        current = local_store.get_named(lease.name)
        assert current is not None
        local_store.put_named(lease.name, current.data.replace(b'"beat": ', b'"beat": 10'))  # our own token, an etag we never saw
        time.sleep(1)
        lease.check()
    with Lease(local_store, "work", "second", 30, wait_seconds=0):
        pass


def test_the_holder_notices_that_the_store_is_gone(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store")

    def hold() -> None:
        with Lease(store, "work", "first", 0.4) as lease:
            (tmp_path / "store").rename(tmp_path / "away")
            (tmp_path / "store").write_bytes(b"no folder")
            time.sleep(0.6)
            assert lease.is_lost
            lease.check()

    with pytest.raises(LeaseLost, match="renewed for"):
        hold()


def test_an_error_of_the_holder_is_not_hidden_by_the_lease(local_store: Store) -> None:
    with pytest.raises(RuntimeError, match="mine"), Lease(local_store, "work", "first", 30):
        raise RuntimeError("mine")
    with Lease(local_store, "work", "second", 30, wait_seconds=0):
        pass


def test_pins_live_as_long_as_the_lease(local_store: Store) -> None:
    digest = "a" * 64
    with Lease(local_store, "work", "first", 30, pins=(digest,)):
        assert live_pins(local_store) == {digest}
    assert live_pins(local_store) == set()


def test_too_short_a_ttl_is_refused_and_the_shortest_is_not(local_store: Store) -> None:
    with pytest.raises(StoreError, match=r"lease\.ttl_seconds"):
        Lease(local_store, "work", "me", MIN_TTL_SECONDS - 0.01)
    with Lease(local_store, "work", "me", MIN_TTL_SECONDS) as lease:
        assert lease.name == LEASE_PREFIX + "work"


def test_what_is_not_a_lease_is_not_overwritten(local_store: Store) -> None:
    local_store.put_named(LEASE_PREFIX + "work", b"{}")
    with pytest.raises(StoreError, match="is not a lease entry"), Lease(local_store, "work", "me", 1):
        pass


def other_entry() -> bytes:
    return b'{"owner": "other", "token": "t", "beat": 1, "ttl_seconds": 30.0}'


def abandon(store: Store, name: str, ttl_seconds: float) -> None:
    """What a killed holder leaves behind."""
    text = f'{{"owner": "dead", "token": "t", "beat": 7, "ttl_seconds": {ttl_seconds}}}'
    store.put_named(LEASE_PREFIX + name, text.encode())
