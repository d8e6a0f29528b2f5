"""Kubeflow component of the job `curate-manifest`."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input, Metrics, Output


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def curate_manifest(
    config: str,
    raw: Input[Dataset],
    curated: Output[Dataset],
    metrics: Output[Metrics],
    report: Output[HTML],
) -> None:
    """Scores, deduplicates, categorises, captions, filters and weighs the pool."""
    from imagewright.jobs.component import run_component

    run_component("curate-manifest", config, inputs={"raw": raw}, output=curated, metrics=metrics, report=report)
