"""The one call a Kubeflow component makes: records in by path, record, metadata and metrics out.

Artifacts are duck-typed (`path`, `metadata`, `log_metric`), so jobs stay free of kfp.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from imagewright.config import Config
from imagewright.config.packed import unpack_config
from imagewright.config.recipe import parse_config
from imagewright.errors import Problem
from imagewright.jobs.frame import Launch, run_job
from imagewright.jobs.job import JobError
from imagewright.jobs.node_request import NodeRequest
from imagewright.jobs.parent_watch import watch_runner
from imagewright.storage.records import Record, parse_record, read_record, write_record


class Artifact(Protocol):
    """What a KFP artifact offers a component."""

    path: str
    metadata: dict[str, Any]


class MetricsArtifact(Artifact, Protocol):
    """KFP's Metrics artifact."""

    def log_metric(self, metric: str, value: float) -> None:
        """Shows one figure in the Kubeflow UI."""


NOT_GIVEN = "not-given"
"""Job name in the record of an optional input that a pipeline was run without."""


class TaskConfig(Protocol):
    """KFP's TaskConfig: what the task was given and its own pod was not."""

    env: list[dict[str, Any]] | None
    tolerations: list[dict[str, Any]] | None
    node_selector: dict[str, str] | None
    resources: dict[str, Any] | None


def run_component(
    job: str,
    config: str,
    *,
    inputs: Mapping[str, Artifact | None],
    output: Artifact,
    metrics: MetricsArtifact,
    report: Artifact | None = None,
    task_config: TaskConfig | None = None,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Record:
    """Runs a job for a component. `config` is the resolved configuration as JSON; absent optional inputs are None.

    task_config: placement of a launcher's task; the body then runs on the nodes of a TrainJob.
    changes: settings by section that tell this task of a fan-out from its siblings.
    """
    watch_runner()
    resolved: Config = parse_config(changed(unpack_config(config), changes or {}), "the pipeline's config parameter")
    given = {name: read_record(Path(artifact.path)) for name, artifact in inputs.items() if artifact is not None}
    records = {name: record for name, record in given.items() if record.job != NOT_GIVEN}
    launch = None if task_config is None else train_job_launch(resolved, task_config)
    result = run_job(job, resolved, records, Path(output.path), launch=launch)
    record = result.record
    output.metadata.update({"digest": record.digest, "revision": record.revision, "cached": result.cached, **record.counts})
    for name, value in {**record.counts, **record.metrics}.items():
        metrics.log_metric(name, float(value))
    if report is not None and result.report is not None:
        shutil.copyfile(result.report, report.path)
    leave_receipt(record)
    return record


def changed(config: str, changes: Mapping[str, Mapping[str, Any]]) -> str:
    """The configuration with some settings of its sections replaced."""
    if not changes:
        return config
    tree = json.loads(config)
    for section, settings in changes.items():
        tree[section] = {**tree.get(section, {}), **settings}
    return json.dumps(tree)


def import_record(inputs: str, name: str, optional: bool, output: Artifact) -> None:
    """Hands one of the records in `inputs` (JSON, name -> record) on; an optional one that is not there is marked as not given.

    Raises JobError when a required one is missing.
    """
    given = json.loads(inputs)
    if name not in given and not optional:
        raise JobError(Problem("--input", "misses a record this pipeline needs", name, f"--input {name}=..."))
    absent = Record(job=NOT_GIVEN, kind="none", digest="")
    record = parse_record(json.dumps(given[name]), name) if name in given else absent
    write_record(record, Path(output.path))
    output.metadata.update({"digest": record.digest, "revision": record.revision})
    leave_receipt(record)


def leave_receipt(record: Record, environ: Mapping[str, str] = os.environ) -> None:
    """Writes the record where a runner asked for it, as the last thing a step does: the runner believes the record, not the exit code."""
    if path := environ.get("IMAGEWRIGHT_RECEIPT", ""):
        write_record(record, Path(path))


def train_job_launch(config: Config, task_config: TaskConfig) -> Launch:
    """How a launcher runs the body: as a TrainJob placed as its task was."""

    def launch(request: NodeRequest) -> None:
        from imagewright.launch.train_job import PodPlacement, TrainRequest
        from imagewright.launch.train_job_step import launch_train_job

        pod = PodPlacement(
            env=task_config.env or (),
            tolerations=task_config.tolerations or (),
            node_selector=task_config.node_selector or {},
            resources=task_config.resources or {},
        )
        asked = TrainRequest(
            job=request.job,
            key=request.key,
            pipeline_run=request.pipeline_run,
            image=config.kubeflow.worker_image,
            git_commit=request.git_commit,
        )
        launch_train_job(asked, config.placement, pod)

    return launch
