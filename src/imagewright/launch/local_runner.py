"""Runs one compiled pipeline on this machine with kfp's own local runner: `python -m imagewright.launch.local_runner FOLDER`.

A process of its own, so that the command line can watch it, end it, and outlive it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

from imagewright.launch.runs import RunFolder
from imagewright.tracking.job_run import JobRun, NullRun

EXIT_FAILED = 1
EXIT_CANCELLED = 130
MAX_ERROR_CHARS = 4000


def main(path: str) -> int:
    """Runs the pipeline in a run's folder and keeps its state file; returns the exit code."""
    folder = RunFolder(Path(path))
    lock = ExitStack()

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        """SIGTERM ends the run as Ctrl-C does; containers are no children of ours and see the lock go."""
        lock.close()
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    folder.write_state(state="running", pid=os.getpid(), started=time.time(), finished=None, error="")
    end_containers(folder)  # what a runner that was killed left behind
    lock.enter_context(folder.hold())
    tracked = open_parent_run(folder)
    try:
        execute(folder)
    except KeyboardInterrupt:
        try:
            end_containers(folder)
        finally:
            folder.write_state(state="cancelled", finished=time.time())
        tracked.close("KILLED")
        return EXIT_CANCELLED
    except Exception as error:  # whatever a runner raises, the run has failed and its state must say so
        folder.write_state(
            state="failed", finished=time.time(), error=failed_steps(folder) or f"{type(error).__name__}: {error}"[:MAX_ERROR_CHARS]
        )
        return EXIT_FAILED
    if message := failure(folder):
        folder.write_state(state="failed", finished=time.time(), error=message)
        tracked.close("FAILED")
        return EXIT_FAILED
    tracked.close()
    folder.write_state(state="succeeded", finished=time.time())
    return 0


def open_parent_run(folder: RunFolder) -> JobRun:
    """Opens the MLflow run of the whole pipeline before any job can: jobs that start at once then never make two."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        return NullRun()
    from imagewright.tracking.runs import open_pipeline_run

    facts = folder.facts()
    config = json.loads(facts["parameters"]["config"])
    return open_pipeline_run(uri, folder.run_id, folder.path / "tracking", config, recipe=facts["recipe"], git_commit=facts["git_commit"])


def failed_steps(folder: RunFolder) -> str:
    """What the failed steps themselves said; empty when none failed."""
    failed = [f"{name}: {step.get('detail', '')}" for name, step in folder.steps().items() if step["status"] == "failed"]
    return "\n".join(failed)[:MAX_ERROR_CHARS]


def failure(folder: RunFolder) -> str:
    """Why a run that the runner calls a success is none: a failed step, or one without a result. Empty when every job is done."""
    missing = folder.unfinished()
    return failed_steps(folder) or (f"no result of {', '.join(missing)}" if missing else "")


def end_containers(folder: RunFolder) -> None:
    """Waits for the containers of a run to end, when its steps run in containers; kills what stays."""
    if folder.facts().get("container"):
        from imagewright.launch import containers

        containers.end_containers(folder.run_id)


def execute(folder: RunFolder) -> None:
    """Hands the IR to kfp's local runner."""
    from kfp import components, local

    warnings.filterwarnings("ignore", message="You may be attemping to run a task")  # the symbolic image stands for this installation
    local.init(runner=runner_of(folder), pipeline_root=str(folder.path / "artifacts"), raise_on_error=True)
    pipeline = components.load_component_from_file(str(folder.ir_path))
    pipeline(**folder.facts()["parameters"])


def runner_of(folder: RunFolder) -> Any:
    """kfp's runner of subprocesses (no virtual environment per task, the jobs are installed here) or of containers."""
    if folder.facts().get("container") is None:
        from kfp import local

        return local.SubprocessRunner(use_venv=False)
    from imagewright.launch import containers

    return containers.docker_runner(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
