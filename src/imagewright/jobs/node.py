"""One process of a job that runs on several nodes: `torchrun -m imagewright.jobs.node ACTION_KEY`.

The first process runs the job and publishes; the others take part in its body. Lookup, lease and the action entry belong to the step
that launched them. All share one work folder.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from imagewright.jobs.environment import read_environment
from imagewright.jobs.frame import Frame
from imagewright.jobs.job import load_job
from imagewright.jobs.node_request import read_request, write_result
from imagewright.jobs.state import StepState
from imagewright.storage import store_from_environment

POLL_SECONDS = 2.0


def run_node(key: str, environ: Mapping[str, str] = os.environ, wait: Callable[[float], None] = time.sleep) -> None:
    """Takes this process's part in the job of `key`. Raises what the job raises, TrainingInterrupted after a checkpoint on SIGTERM."""
    store = store_from_environment(environ)
    request = read_request(store, key)
    job, module = load_job(request.job)
    environment = replace(
        read_environment(environ), pipeline_run=request.pipeline_run, image_digest=request.image_digest, git_commit=request.git_commit
    )
    frame = Frame(job, module, request.config, request.inputs, environment, store, key, StepState(None, request.job))
    if int(environ.get("RANK", "0")) == 0:
        for record in request.inputs.values():
            frame.fetch(record)
        write_result(store, key, frame.run_body().record)
        return
    for record in request.inputs.values():
        wait_for(frame.payload_path(record), wait)
    frame.follow()


def wait_for(path: Path, wait: Callable[[float], None]) -> None:
    """Waits until the first process has downloaded a payload. If that fails, torchrun ends this process too."""
    while not path.exists():
        wait(POLL_SECONDS)


if __name__ == "__main__":
    run_node(sys.argv[1])
