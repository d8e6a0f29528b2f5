"""Kubeflow component of the job `finetune-sft`."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def finetune_sft(
    config: str,
    base: Input[Model],
    sft_data: Input[Dataset],
    sft: Output[Model],
    metrics: Output[Metrics],
    vae: Input[Model] = None,
) -> None:
    """Fine-tunes on the domains and grows one LoRA expert from each."""
    from imagewright.jobs.component import run_component

    run_component("finetune-sft", config, inputs={"base": base, "sft_data": sft_data, "vae": vae}, output=sft, metrics=metrics)
