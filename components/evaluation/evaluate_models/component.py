"""Kubeflow component of the job `evaluate-models`."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def evaluate_models(
    config: str,
    base: Input[Model],
    vae: Input[Model],
    curated: Input[Dataset],
    results: Output[Artifact],
    metrics: Output[Metrics],
    sft: Input[Model] = None,
    dpo: Input[Model] = None,
    turbo: Input[Model] = None,
    enhancer: Input[Model] = None,
    aes: Input[Model] = None,
) -> None:
    """Scores every model of the lineage on the same prompts and seeds, with and without the enhancer."""
    from imagewright.jobs.component import run_component

    lineage = {"base": base, "sft": sft, "dpo": dpo, "turbo": turbo}
    inputs = {"vae": vae, "curated": curated, "enhancer": enhancer, "aes": aes, **lineage}
    run_component("evaluate-models", config, inputs=inputs, output=results, metrics=metrics)
