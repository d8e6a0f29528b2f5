"""Kubeflow component of the job `train-enhancer`."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def train_enhancer(
    config: str,
    curated: Input[Dataset],
    enhancer: Output[Model],
    metrics: Output[Metrics],
    model: Input[Model] = None,
    vae: Input[Model] = None,
    aes: Input[Model] = None,
) -> None:
    """Trains the language model that expands short prompts."""
    from imagewright.jobs.component import run_component

    inputs = {"curated": curated, "model": model, "vae": vae, "aes": aes}
    run_component("train-enhancer", config, inputs=inputs, output=enhancer, metrics=metrics)
