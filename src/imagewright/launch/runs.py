"""Local pipeline runs: one folder each, holding the IR, the parameters, every step's state and the log.

The folder is a view for people; what is done is decided by records in the store.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from imagewright.errors import InputError, Problem
from imagewright.jobs.parent_watch import RUNNER_LOCK

MAX_STATE_BYTES = 4 << 20
FINISHED = frozenset({"done", "cached"})


@dataclass(frozen=True)
class RunFolder:
    """One local run. `facts` are fixed when it is created; `state.json` and `steps/` change."""

    path: Path

    @property
    def run_id(self) -> str:
        """Name of the run; also the pipeline run id its jobs see."""
        return self.path.name

    @property
    def ir_path(self) -> Path:
        """The compiled pipeline."""
        return self.path / "pipeline.yaml"

    @property
    def log_path(self) -> Path:
        """Everything the runner and its jobs printed."""
        return self.path / "log.txt"

    @property
    def report_path(self) -> Path:
        """Where the report of this run is copied."""
        return self.path / "report.html"

    def facts(self) -> dict[str, Any]:
        """Pipeline, recipe, parameters and options of the run."""
        return read_json(self.path / "run.json")

    def state(self) -> dict[str, Any]:
        """Current state of the run: `state`, `pid`, `started`, `finished`, `error`."""
        path = self.path / "state.json"
        return read_json(path) if path.exists() else {"state": "created"}

    def steps(self) -> dict[str, dict[str, Any]]:
        """State of every step that has started, by job name."""
        return {path.stem: read_json(path) for path in sorted((self.path / "steps").glob("*.json"))}

    def unfinished(self) -> list[str]:
        """Jobs that left no result, in graph order."""
        steps = self.steps()
        return [job for job in self.facts()["jobs"] if steps.get(job, {}).get("status") not in FINISHED]

    def hold(self) -> IO[bytes]:
        """The lock a runner holds for as long as it lives, as an open file; steps in containers end once it is closed."""
        file = (self.path / RUNNER_LOCK).open("ab")
        fcntl.flock(file, fcntl.LOCK_EX)
        return file

    def write_state(self, **facts: Any) -> None:
        """Merges facts into the state in one rename."""
        temporary = self.path / "state.json.tmp"
        temporary.write_text(json.dumps({**self.state(), **facts}, ensure_ascii=False), encoding="utf-8")
        temporary.replace(self.path / "state.json")


def runs_root(home: Path) -> Path:
    """Folder of all local runs."""
    return home / "runs"


def create_run(home: Path, name: str, ir: str, facts: dict[str, Any]) -> RunFolder:
    """Creates the folder of a new run. Raises InputError when the name is taken."""
    run_id = name or f"{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    folder = RunFolder(runs_root(home) / run_id)
    try:
        folder.path.mkdir(parents=True)
    except FileExistsError as error:
        raise InputError(
            Problem("--name", "a run has this name already", run_id, f"imagewright resume {run_id}, or take another name")
        ) from error
    (folder.path / "steps").mkdir()
    folder.ir_path.write_text(ir, encoding="utf-8")
    (folder.path / "run.json").write_text(json.dumps(facts, ensure_ascii=False, indent=1), encoding="utf-8")
    folder.write_state(state="created")
    return folder


def list_runs(home: Path) -> list[RunFolder]:
    """Every local run, newest first."""
    folders = [path.parent for path in runs_root(home).glob("*/run.json")]
    return [RunFolder(path) for path in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)]


def find_run(home: Path, run_id: str) -> RunFolder:
    """One run by its full name or by an unambiguous beginning; `latest` is the newest."""
    runs = list_runs(home)
    if run_id == "latest" and runs:
        return runs[0]
    exact = [run for run in runs if run.run_id == run_id]
    matches = exact or [run for run in runs if run.run_id.startswith(run_id)]
    if len(matches) == 1:
        return matches[0]
    rule = "no run has this name" if not matches else "more than one run begins like this"
    known = ", ".join(run.run_id for run in (matches or runs)[:5]) or "none yet; imagewright run end_to_end"
    raise InputError(Problem("run", rule, run_id, f"runs: {known}"))


def read_json(path: Path) -> dict[str, Any]:
    """Reads one small JSON file of ours."""
    with path.open("rb") as file:
        content: dict[str, Any] = json.loads(file.read(MAX_STATE_BYTES))
    return content
