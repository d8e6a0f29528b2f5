"""Kubeflow component of the job `ingest-raw`."""

from kfp import dsl
from kfp.dsl import Dataset, Metrics, Output


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def ingest_raw(
    config: str,
    raw: Output[Dataset],
    metrics: Output[Metrics],
) -> None:
    """Collects the raw pool from its sources into shards and a raw manifest."""
    from imagewright.jobs.component import run_component

    run_component("ingest-raw", config, inputs={}, output=raw, metrics=metrics)
