"""Kubeflow component of the job `judge-alignment`."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def judge_alignment(
    config: str,
    sft: Input[Model],
    dpo: Input[Model],
    vae: Input[Model],
    curated: Input[Dataset],
    aligned: Output[Model],
    metrics: Output[Metrics],
) -> None:
    """Chooses the model that goes on: the aligned one where an independent judge shows that it is better."""
    from imagewright.jobs.component import run_component

    inputs = {"sft": sft, "dpo": dpo, "vae": vae, "curated": curated}
    run_component("judge-alignment", config, inputs=inputs, output=aligned, metrics=metrics)
