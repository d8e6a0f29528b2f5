"""A job that torchrun started as several processes: the first one decides, publishes and records, the others only train with it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING

from imagewright.errors import Problem
from imagewright.jobs.job import Job, JobError

if TYPE_CHECKING:
    from pathlib import Path


def is_one_of_many(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether torchrun started this process as one of several."""
    return int(environ.get("WORLD_SIZE", "1")) > 1


def is_follower(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process takes no lease, writes no record and tracks no run."""
    return is_one_of_many(environ) and int(environ.get("RANK", "0")) > 0


def check_distributed(job: Job, environ: Mapping[str, str] = os.environ) -> None:
    """Raises JobError for a job that would do the same work in every process."""
    if is_one_of_many(environ) and not job.distributed:
        fix = "start it as one process"
        raise JobError(Problem(f"job.{job.name}", "does not run as several processes", f"WORLD_SIZE={environ['WORLD_SIZE']}", fix))


def tell_followers(starts: bool) -> None:
    """The first process's decision: the job starts (True), or an earlier result was found. Nothing to tell alone.

    A collective, so that nobody waits in a rendezvous for a process that found the result already there.
    """
    if is_one_of_many():
        from imagewright.training.world import open_world

        open_world().from_first(float(starts))


def hear_decision() -> bool:
    """What the first process told: whether the job starts. Alone there is nobody to wait for, and it does."""
    if not is_one_of_many():
        return True
    from imagewright.training.world import open_world

    return open_world().from_first(0.0) > 0


def own_output(work: Path) -> Path:
    """An empty folder for what this process's copy of the job writes; nothing in it is published."""
    folder = work / f"output-of-process-{os.environ.get('RANK', '0')}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
