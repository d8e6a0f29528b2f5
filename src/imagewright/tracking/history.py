"""Reads curves back: the metric histories of a pipeline run's jobs, for its report."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from imagewright.tracking.identity import DEFAULT_EXPERIMENT

logger = logging.getLogger("imagewright.tracking")

Points = list[tuple[int, float]]


def curves_of_run(uri: str, pipeline_run: str, metrics: Sequence[str]) -> dict[str, Points]:
    """`<task> <metric>` -> (step, value) points of every job of a pipeline run that logged the metric more than once.

    A server that does not answer gives no curves: a report without them beats no report.
    """
    try:
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(os.environ.get("MLFLOW_EXPERIMENT_NAME", DEFAULT_EXPERIMENT))
        if experiment is None:
            return {}
        wanted = f"tags.pipeline_run = '{pipeline_run}' and tags.role = 'job'"
        curves: dict[str, Points] = {}
        for run in client.search_runs([experiment.experiment_id], wanted, max_results=200):
            for metric in sorted(set(metrics) & run.data.metrics.keys()):
                points = sorted({(point.step, point.value) for point in client.get_metric_history(run.info.run_id, metric)})
                if len(points) > 1:
                    curves[f"{run.data.tags.get('task', '')} {metric}"] = points
    except MlflowException as error:
        logger.warning("no curves: %s", error)
        return {}
    return dict(sorted(curves.items()))
