"""Kubeflow component of the job `encode-latents`."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def encode_latents(
    config: str,
    curated: Input[Dataset],
    vae: Input[Model],
    latents: Output[Dataset],
    metrics: Output[Metrics],
) -> None:
    """Encodes the curated images and captions, bucket by bucket."""
    from imagewright.jobs.component import run_component

    run_component("encode-latents", config, inputs={"curated": curated, "vae": vae}, output=latents, metrics=metrics)
