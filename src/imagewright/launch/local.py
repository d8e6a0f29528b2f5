"""Starts, watches, ends and resumes pipeline runs on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from rich.console import Console
from rich.live import Live

from imagewright.config import Config
from imagewright.errors import InputError, Problem
from imagewright.jobs.environment import git_commit
from imagewright.launch.inputs import run_parameters
from imagewright.launch.ir import PipelineIR
from imagewright.launch.progress import table
from imagewright.launch.runs import RunFolder, create_run
from imagewright.storage.records import Record

if TYPE_CHECKING:
    from imagewright.launch.containers import ContainerPlace

POLL_SECONDS = 0.2
PLAIN_POLL_SECONDS = 0.5
STOP_SECONDS = 20.0
INTERRUPTED = 130
"""Exit code of a run that a person ended."""


def create(
    home: Path,
    pipeline: PipelineIR,
    config: Config,
    name: str = "",
    forced: frozenset[str] = frozenset(),
    required: frozenset[str] = frozenset(),
    inputs: Mapping[str, Record] | None = None,
    container: ContainerPlace | None = None,
) -> RunFolder:
    """Writes the folder of a new run: the IR, its parameters and what `--from` asks.

    container: what the steps run in; None makes them processes of this machine.
    """
    facts = {
        "pipeline": pipeline.name,
        "recipe": config.name,
        "jobs": pipeline.jobs(),
        "force": sorted(forced),
        "require_cached": sorted(required),
        "git_commit": git_commit(),
        "parameters": run_parameters(config, inputs),
        "container": None if container is None else container.facts(),
    }
    return create_run(home, name, pipeline.to_yaml(), facts)


def start(folder: RunFolder, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Starts the runner of a run in its own process group; its output goes to the run's log."""
    refuse_if_running(folder)
    for step in (folder.path / "steps").glob("*.json"):
        step.unlink()
    facts = folder.facts()
    run_environment = {
        **os.environ,
        **environment,
        "IMAGEWRIGHT_PIPELINE_RUN": folder.run_id,
        "IMAGEWRIGHT_RUN_FOLDER": str(folder.path),
        "IMAGEWRIGHT_WORK": str(folder.path.parents[1] / "work"),
        "IMAGEWRIGHT_FORCE_JOBS": ",".join(facts["force"]),
        "IMAGEWRIGHT_REQUIRE_CACHED": ",".join(facts["require_cached"]),
        "IMAGEWRIGHT_GIT_COMMIT": facts["git_commit"],
        "PYTHONUNBUFFERED": "1",
        # kfp starts a bare `python3` for each task: it must be the interpreter that holds this installation.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    with folder.log_path.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "imagewright.launch.local_runner", str(folder.path)],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=run_environment,
            start_new_session=True,
        )


def watch(folder: RunFolder, runner: subprocess.Popen[bytes], console: Console) -> int:
    """Shows the table of steps until the runner ends; Ctrl-C and SIGTERM end the run. Returns the runner's exit code."""
    jobs = folder.facts()["jobs"]
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if console.is_terminal:
            with Live(table(folder, jobs), console=console, refresh_per_second=4) as live:
                while runner.poll() is None:
                    time.sleep(POLL_SECONDS)
                    live.update(table(folder, jobs))
                live.update(table(folder, jobs, alive=False))
        else:
            follow_plain(folder, runner, console)
            console.print(table(folder, jobs, alive=False))
    except KeyboardInterrupt:
        console.print("stopping; a training job writes its checkpoint first", highlight=False)
        stop(folder)
        runner.wait()
        console.print(interrupted(folder), highlight=False, soft_wrap=True)
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    return runner.wait()


def interrupted(folder: RunFolder) -> str:
    """What a person reads after Ctrl-C: what is kept, and how to go on."""
    done = sum(step["status"] in {"done", "cached"} for step in folder.steps().values())
    kept = f"interrupted; {done} of {len(folder.facts()['jobs'])} steps are done and stay done"
    return f"{kept}. The same command continues; so does: imagewright resume {folder.run_id}"


def follow_plain(folder: RunFolder, runner: subprocess.Popen[bytes], console: Console) -> None:
    """Without a terminal: one line each time a step changes its state."""
    seen: dict[str, str] = {}
    running = True
    while running:
        running = runner.poll() is None
        for job, step in folder.steps().items():
            if seen.get(job) != step["status"]:
                seen[job] = step["status"]
                spent = f" after {step['wall_seconds']:.1f} s" if "wall_seconds" in step else ""
                console.print(f"{time.strftime('%H:%M:%S')} {job}: {step['status']}{spent}", highlight=False)
        if running:
            time.sleep(PLAIN_POLL_SECONDS)


def is_alive(folder: RunFolder) -> bool:
    """True while the runner of a run lives. A pid that was reused by another program does not count."""
    pid = folder.state().get("pid")
    if folder.state().get("state") != "running" or not isinstance(pid, int):
        return False
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and str(folder.path) in process.cmdline()
    except psutil.Error:
        return False


def stop(folder: RunFolder) -> None:
    """Ends a run: SIGTERM to its process group, SIGKILL to whatever is left after a deadline."""
    if not is_alive(folder):
        return
    group = os.getpgid(folder.state()["pid"])
    signal_group(group, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline and is_alive(folder):
        time.sleep(POLL_SECONDS)
    signal_group(group, signal.SIGKILL)
    if folder.state().get("state") == "running":
        folder.write_state(state="cancelled", finished=time.time())


def signal_group(group: int, number: signal.Signals) -> None:
    """Signals every process of a group; one that is gone already is fine."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


def refuse_if_running(folder: RunFolder) -> None:
    """One runner per run."""
    if is_alive(folder):
        raise InputError(
            Problem(
                "run", "is running already", folder.run_id, f"imagewright status {folder.run_id}, or imagewright cancel {folder.run_id}"
            )
        )


def summary(folder: RunFolder) -> dict[str, Any]:
    """One row of `imagewright runs`. A run whose runner died without a word is `lost`."""
    facts, state = folder.facts(), folder.state()
    status = state["state"] if state["state"] != "running" or is_alive(folder) else "lost"
    steps = folder.steps().values()
    return {
        "run": folder.run_id,
        "pipeline": facts["pipeline"],
        "recipe": facts["recipe"],
        "on": "docker" if facts.get("container") else "local",
        "state": status,
        "steps": f"{sum(step['status'] in {'done', 'cached'} for step in steps)}/{len(facts['jobs'])}",
        "started": state.get("started"),
        "seconds": (state.get("finished") or time.time()) - state["started"] if state.get("started") else None,
    }


def resume_facts(folder: RunFolder) -> None:
    """A resumed run forces nothing: what it redid before it stopped is found by its record."""
    facts = folder.facts()
    done = {name for name, step in folder.steps().items() if step["status"] == "done"}
    facts["force"] = sorted(set(facts["force"]) - done)
    (folder.path / "run.json").write_text(json.dumps(facts, ensure_ascii=False, indent=1), encoding="utf-8")
