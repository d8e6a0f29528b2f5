"""Kubeflow component of the job `align-dpo`."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def align_dpo(
    config: str,
    sft: Input[Model],
    preferences: Input[Dataset],
    dpo: Output[Model],
    metrics: Output[Metrics],
) -> None:
    """Aligns the fine-tuned model with preference pairs; stops at the last healthy checkpoint."""
    from imagewright.jobs.component import run_component

    run_component("align-dpo", config, inputs={"sft": sft, "preferences": preferences}, output=dpo, metrics=metrics)
