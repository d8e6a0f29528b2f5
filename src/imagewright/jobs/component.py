"""The one call a Kubeflow component makes: records in by path, record, metadata and metrics out.

Artifacts are duck-typed (`path`, `metadata`, `log_metric`), so jobs stay free of kfp.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from imagewright.config import Config
from imagewright.config.recipe import parse_recipe, validate
from imagewright.jobs.frame import run_job
from imagewright.jobs.parent_watch import watch_parent
from imagewright.storage.records import Record, read_record


class Artifact(Protocol):
    """What a KFP artifact offers a component."""

    path: str
    metadata: dict[str, Any]


class MetricsArtifact(Artifact, Protocol):
    """KFP's Metrics artifact."""

    def log_metric(self, metric: str, value: float) -> None:
        """Shows one figure in the Kubeflow UI."""


def run_component(
    job: str,
    config: str,
    *,
    inputs: Mapping[str, Artifact | None],
    output: Artifact,
    metrics: MetricsArtifact,
    report: Artifact | None = None,
) -> Record:
    """Runs a job for a component. `config` is the resolved configuration as JSON; absent optional inputs are None."""
    watch_parent()
    resolved: Config = validate(parse_recipe(config, "the pipeline's config parameter"))
    records = {name: read_record(Path(artifact.path)) for name, artifact in inputs.items() if artifact is not None}
    result = run_job(job, resolved, records, Path(output.path))
    record = result.record
    output.metadata.update({"digest": record.digest, "revision": record.revision, "cached": result.cached, **record.counts})
    for name, value in {**record.counts, **record.metrics}.items():
        metrics.log_metric(name, float(value))
    if report is not None and result.report is not None:
        shutil.copyfile(result.report, report.path)
    return record
