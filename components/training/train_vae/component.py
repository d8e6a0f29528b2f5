"""Kubeflow component of the job `train-vae`."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def train_vae(
    config: str,
    curated: Input[Dataset],
    vae: Output[Model],
    metrics: Output[Metrics],
) -> None:
    """Trains the small autoencoder of machines without a released one."""
    from imagewright.jobs.component import run_component

    run_component("train-vae", config, inputs={"curated": curated}, output=vae, metrics=metrics)
