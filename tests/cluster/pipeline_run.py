"""One run on Kubeflow Pipelines for the cluster suite; what it leaves there is taken away again, whatever happened."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from imagewright.config import Config
from imagewright.launch.ir import PipelineIR
from imagewright.launch.kubeflow import NOT_FOUND, Kubeflow, KubeflowError

ENDED_SECONDS = 900.0
"""Launchers end their TrainJobs before they end themselves: the charts must stay until then."""


@contextmanager
def submitted(kubeflow: Kubeflow, pipeline: PipelineIR, config: Config, name: str) -> Iterator[str]:
    """Submits a run under a name of its own and yields its id; then ends it and deletes run, version and experiment.

    A pipeline that was there before stays, with the versions that others made.
    """
    known = pipeline_id(kubeflow, pipeline.name)
    with ExitStack() as undo:
        undo.callback(forget_experiment, kubeflow)
        undo.callback(forget_version, kubeflow, pipeline.name, name, known)
        run_id = kubeflow.submit(pipeline, config, name, name)
        undo.callback(kubeflow.call, kubeflow.runs.run_service_delete_run, run_id)
        undo.callback(end, kubeflow, run_id)
        yield run_id


def end(kubeflow: Kubeflow, run_id: str) -> None:
    """Ends a run that goes on, and waits for its steps to be gone. Raises TimeoutError when they stay."""
    if kubeflow.look(run_id).is_finished:
        return
    kubeflow.terminate(run_id)
    until = time.monotonic() + ENDED_SECONDS
    while not kubeflow.look(run_id).is_finished:
        if time.monotonic() > until:
            raise TimeoutError(f"run {run_id} was ended and still goes on after {ENDED_SECONDS:.0f} s")
        kubeflow.wait(5.0)


def pipeline_id(kubeflow: Kubeflow, name: str) -> str:
    """Id of a pipeline; empty when there is none."""
    try:
        return str(kubeflow.call(kubeflow.pipelines.pipeline_service_get_pipeline_by_name, name).pipeline_id)
    except KubeflowError as error:
        if error.status != NOT_FOUND:
            raise
        return ""


def forget_version(kubeflow: Kubeflow, pipeline: str, version: str, known: str) -> None:
    """Deletes the version of this run; with its pipeline when the run made that too."""
    found = pipeline_id(kubeflow, pipeline)
    if not found:
        return
    for one in kubeflow.versions(found):
        if one.display_name == version or not known:
            kubeflow.call(kubeflow.pipelines.pipeline_service_delete_pipeline_version, found, str(one.pipeline_version_id))
    if not known:
        kubeflow.call(kubeflow.pipelines.pipeline_service_delete_pipeline, found)


def forget_experiment(kubeflow: Kubeflow) -> None:
    """Deletes the experiment of this run, which bears its name."""
    kubeflow.call(kubeflow.experiments.experiment_service_delete_experiment, kubeflow.ensure_experiment())
