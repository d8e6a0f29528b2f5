"""Run folders: named once, found by their beginning, honest about a runner that died."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rich.console import Console

from imagewright.errors import InputError
from imagewright.jobs.state import StepState
from imagewright.launch.local import is_alive, summary
from imagewright.launch.progress import table
from imagewright.launch.runs import RunFolder, create_run, find_run, list_runs
from imagewright.storage.records import Record

FACTS = {"pipeline": "party", "recipe": "debug", "jobs": ["pick-fruit", "bake-cake"], "force": [], "require_cached": [], "parameters": {}}


def make(home: Path, name: str) -> RunFolder:
    return create_run(home, name, "pipelineInfo: {name: party}", FACTS)


def shown(folder: RunFolder, alive: bool = True) -> str:
    console = Console(width=160, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    console.print(table(folder, FACTS["jobs"], alive=alive))  # type: ignore[arg-type]
    return console.export_text()


def test_a_taken_name_is_refused_and_the_first_run_stays(tmp_path: Path) -> None:
    first = make(tmp_path, "monday")
    with pytest.raises(InputError, match="imagewright resume monday"):
        make(tmp_path, "monday")
    assert [run.run_id for run in list_runs(tmp_path)] == [first.run_id]


def test_runs_are_found_by_beginning_and_by_latest(tmp_path: Path) -> None:
    make(tmp_path, "monday")
    make(tmp_path, "mondays-child")
    os.utime(tmp_path / "runs" / "monday" / "run.json", (1, 1))
    assert find_run(tmp_path, "monday").run_id == "monday"
    assert find_run(tmp_path, "mondays").run_id == "mondays-child"
    assert find_run(tmp_path, "latest").run_id == "mondays-child"
    with pytest.raises(InputError, match="more than one"):
        find_run(tmp_path, "mon")
    with pytest.raises(InputError, match="no run has this name"):
        find_run(tmp_path, "tuesday")


def test_a_runner_that_died_is_lost_not_running(tmp_path: Path) -> None:
    folder = make(tmp_path, "monday")
    folder.write_state(state="running", pid=2**22 - 3, started=0.0)
    assert not is_alive(folder)
    assert summary(folder)["state"] == "lost"


def test_a_reused_pid_is_not_taken_for_the_runner(tmp_path: Path) -> None:
    folder = make(tmp_path, "monday")
    folder.write_state(state="running", pid=os.getpid(), started=0.0)
    assert not is_alive(folder)


def test_the_table_shows_state_figures_and_the_reason_of_a_failure(tmp_path: Path) -> None:
    folder = make(tmp_path, "monday")
    with StepState(folder.path, "pick-fruit") as state:
        state.finish("done", Record(job="pick-fruit", kind="dataset", digest="0" * 64, metrics={"taste": 0.5}), 1.25)
    with pytest.raises(RuntimeError), StepState(folder.path, "bake-cake"):
        raise RuntimeError("oven is cold")
    text = shown(folder)
    assert "done" in text
    assert "taste 0.5" in text
    assert "RuntimeError: oven is cold" in text


def test_a_step_of_a_dead_runner_is_shown_as_lost(tmp_path: Path) -> None:
    folder = make(tmp_path, "monday")
    StepState(folder.path, "pick-fruit").write("running")
    assert "running" in shown(folder)
    assert "lost" in shown(folder, alive=False)
