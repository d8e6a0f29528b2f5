"""Kubeflow component of the job `export-bundle`."""

from kfp import dsl
from kfp.dsl import Input, Metrics, Model, Output


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def export_bundle(
    config: str,
    model: Input[Model],
    vae: Input[Model],
    bundle: Output[Model],
    metrics: Output[Metrics],
    enhancer: Input[Model] = None,
) -> None:
    """Puts a servable diffusers folder together."""
    from imagewright.jobs.component import run_component

    run_component("export-bundle", config, inputs={"model": model, "vae": vae, "enhancer": enhancer}, output=bundle, metrics=metrics)
