"""Kubeflow component of the job `pretrain-dit`."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def pretrain_dit(
    config: str,
    latents: Input[Dataset],
    base: Output[Model],
    metrics: Output[Metrics],
    vae: Input[Model] = None,
) -> None:
    """Pretrains the DiT by flow matching, one resolution after another."""
    from imagewright.jobs.component import run_component

    run_component("pretrain-dit", config, inputs={"latents": latents, "vae": vae}, output=base, metrics=metrics)
