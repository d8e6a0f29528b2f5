"""The holder of a lease is known to live or to be gone."""

from __future__ import annotations

from imagewright.jobs.lease_owner import is_gone, this_process


def test_the_owner_of_a_lease_is_known_to_be_alive_or_gone() -> None:
    host, pid, started = this_process().split(":")
    assert not is_gone(this_process())
    assert is_gone(f"{host}:{pid}:1.5")
    assert not is_gone(f"elsewhere:{pid}:{started}")
    machine = host.partition("/")[0]
    assert not is_gone(f"{machine}/1:{pid}:1.5")  # a container beside this one: its process of that number is another
