"""Kubeflow component of the job `write-report`: the exit handler of a pipeline."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Metrics, Output, PipelineTaskFinalStatus


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def write_report(
    config: str,
    status: PipelineTaskFinalStatus,
    record: Output[Artifact],
    metrics: Output[Metrics],
    report: Output[HTML],
) -> None:
    """Writes the report of the run, however it ended."""
    from imagewright.jobs.component import run_component

    run_component("write-report", config, inputs={}, output=record, metrics=metrics, report=report)
