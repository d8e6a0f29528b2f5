"""Checks of the machine: each says ok or what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagewright.doctor import machine
from imagewright.doctor.finding import State


@pytest.mark.parametrize(("num_bytes", "state"), [(99, State.failed), (100, State.warning), (199, State.warning), (200, State.ok)])
def test_space_is_judged_at_its_two_limits(num_bytes: int, state: State) -> None:
    finding = machine.judge_space("disk", num_bytes, "free", required=100, comfortable=200)
    assert finding.state == state
    assert bool(finding.fix) == (state != State.ok)


def test_a_version_other_than_the_pinned_one_is_named(tmp_path: Path) -> None:
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("# pins\npydantic==0.1\nsurely-not-installed==1.0\n")
    finding = machine.check_packages(constraints)
    assert finding.state == State.failed
    assert "pydantic" in finding.detail
    assert "instead of 0.1" in finding.detail
    assert "pip install" in finding.fix


def test_the_build_label_of_a_version_does_not_count(tmp_path: Path) -> None:
    from importlib.metadata import version

    constraints = tmp_path / "constraints.txt"
    constraints.write_text(f"pydantic=={version('pydantic')}+cpu\n")
    assert machine.check_packages(constraints).state == State.ok


def test_without_constraints_versions_are_not_compared(tmp_path: Path) -> None:
    assert machine.check_packages(tmp_path / "none.txt").state == State.skipped


def test_pins_are_read_and_everything_else_is_left_out() -> None:
    assert machine.read_pins(["a==1", " b.c==2 ; python_version > '3'", "# d==3", "e>=4", ""]) == {"a": "1", "b.c": "2"}


def test_a_missing_compiler_is_a_warning_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    finding = machine.check_compiler()
    assert finding.state == State.warning
    assert "g++" in finding.detail
    assert "python3-dev" in finding.fix


def test_missing_git_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert machine.check_git().state == State.failed


def test_the_disk_of_a_home_that_does_not_exist_yet_is_that_of_its_parent(tmp_path: Path) -> None:
    assert str(tmp_path) in machine.check_disk(tmp_path / "not" / "yet").detail


def test_this_machine_has_memory_and_python() -> None:
    assert machine.check_memory().name == "memory"
    assert machine.check_python().state == State.ok
