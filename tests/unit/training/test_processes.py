"""What a run of several processes passes on to the job that started it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_run import Recorder

from imagewright.training.processes import JournalReader, JournalRun, ProcessesFailedError, run_processes


def test_metrics_and_events_are_passed_on_once(tmp_path: Path) -> None:
    journal, recorder = JournalRun(tmp_path / "j"), Recorder()
    reader = JournalReader(tmp_path / "j", recorder)  # type: ignore[arg-type]
    journal.log_metrics({"train/loss": 0.5}, 3)
    reader.forward()
    journal.log_event("resumed", 4, "from step 4")
    reader.forward()
    reader.forward()
    assert recorder.metrics == [(3, {"train/loss": 0.5})]
    assert recorder.events == [("resumed", "from step 4")]


def test_a_half_written_line_waits(tmp_path: Path) -> None:
    path, recorder = tmp_path / "j", Recorder()
    path.write_text("")
    reader = JournalReader(path, recorder)  # type: ignore[arg-type]
    path.write_text('{"metrics": {"train/loss": 1')
    reader.forward()
    assert recorder.metrics == []
    path.write_text('{"metrics": {"train/loss": 1.0}, "step": 2}\n')
    reader.forward()
    assert recorder.metrics == [(2, {"train/loss": 1.0})]


def test_lines_of_an_earlier_attempt_are_not_passed_on_again(tmp_path: Path) -> None:
    JournalRun(tmp_path / "j").log_metrics({"train/loss": 0.5}, 3)
    recorder = Recorder()
    JournalReader(tmp_path / "j", recorder).forward()  # type: ignore[arg-type]
    assert recorder.metrics == []


@pytest.mark.e2e
def test_a_process_that_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ProcessesFailedError, match="exit code"):
        run_processes("imagewright.no_such_module", [], 1, tmp_path / "j", Recorder())  # type: ignore[arg-type]
