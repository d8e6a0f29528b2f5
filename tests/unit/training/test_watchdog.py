"""Which process is named when a run hangs."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from imagewright.training.watchdog import EXIT_STALLED, Beat, Heartbeat, Watchdog, name_stalled, read_beats


def test_the_process_at_the_earliest_step_is_named_not_those_that_wait_for_it() -> None:
    beats = [Beat(0, 7, "update", 100.0), Beat(1, 6, "forward", 100.2), Beat(2, 7, "update", 99.0)]
    assert [beat.rank for beat in name_stalled(beats, 200.0, 60.0)] == [1]


def test_at_one_step_the_first_to_fall_silent_is_named() -> None:
    beats = [Beat(0, 7, "update", 110.0), Beat(1, 7, "forward", 100.0)]
    assert [beat.rank for beat in name_stalled(beats, 200.0, 60.0)] == [1]


def test_silence_just_below_the_limit_is_no_stall_and_at_it_is_one() -> None:
    beats = [Beat(0, 1, "data", 100.0)]
    assert name_stalled(beats, 159.9, 60.0) == []
    assert name_stalled(beats, 160.0, 60.0) == beats


def test_beats_are_read_back_and_a_torn_file_is_passed_over(tmp_path: Path) -> None:
    Heartbeat(tmp_path, 0).beat(3, "save")
    (tmp_path / "process-00001.json").write_text("{")
    assert [(beat.rank, beat.step, beat.phase) for beat in read_beats(tmp_path)] == [(0, 3, "save")]


def test_a_silent_process_ends_the_run_and_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ended = threading.Event()
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    with Watchdog(tmp_path, 0.2, end):
        Heartbeat(tmp_path, 3).beat(5, "forward")
        assert ended.wait(30)
    assert codes == [EXIT_STALLED]
    assert "process 3 (step 5, forward)" in capfd.readouterr().err
