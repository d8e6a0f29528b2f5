"""Kubeflow component of the job `finetune-sft` on several nodes: its own pod only launches and watches the TrainJob."""

from imagewright_components.training.handed_on import HANDED_ON
from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False, task_config_passthroughs=HANDED_ON)
def finetune_sft(
    config: str,
    base: Input[Model],
    sft_data: Input[Dataset],
    sft: Output[Model],
    metrics: Output[Metrics],
    task_config: dsl.TaskConfig,
    vae: Input[Model] = None,
) -> None:
    """Fine-tunes on the domains on the nodes of a TrainJob and grows one LoRA expert from each."""
    from imagewright.jobs.component import run_component

    inputs = {"base": base, "sft_data": sft_data, "vae": vae}
    run_component("finetune-sft", config, inputs=inputs, output=sft, metrics=metrics, task_config=task_config)
