"""Kubeflow component of the job `train-enhancer`."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def train_enhancer(
    config: str,
    curated: Input[Dataset],
    enhancer: Output[Model],
    metrics: Output[Metrics],
) -> None:
    """Trains the language model that expands short prompts."""
    from imagewright.jobs.component import run_component

    run_component("train-enhancer", config, inputs={"curated": curated}, output=enhancer, metrics=metrics)
