"""Kubeflow component of the job `distill-turbo`."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def distill_turbo(
    config: str,
    model: Input[Model],
    latents: Input[Dataset],
    turbo: Output[Model],
    metrics: Output[Metrics],
    experts: Input[Model] = None,
) -> None:
    """Distils a student of few steps from the model and its domain experts."""
    from imagewright.jobs.component import run_component

    run_component("distill-turbo", config, inputs={"model": model, "latents": latents, "experts": experts}, output=turbo, metrics=metrics)
