"""Kubeflow component of the job `measure-drift`."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def measure_drift(
    config: str,
    model: Input[Model],
    turbo: Input[Model],
    vae: Input[Model],
    curated: Input[Dataset],
    drift: Output[Artifact],
    metrics: Output[Metrics],
    report: Output[HTML],
    single: Input[Model] = None,
) -> None:
    """Judges what distillation cost: every row of the drift table by domain and skill."""
    from imagewright.jobs.component import run_component

    inputs = {"model": model, "turbo": turbo, "vae": vae, "curated": curated, "single": single}
    run_component("measure-drift", config, inputs=inputs, output=drift, metrics=metrics, report=report)
