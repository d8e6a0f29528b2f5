"""Kubeflow component of the job `align-dpo` on several nodes: its own pod only launches and watches the TrainJob."""

from imagewright_components.training.handed_on import HANDED_ON
from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False, task_config_passthroughs=HANDED_ON)
def align_dpo(
    config: str,
    sft: Input[Model],
    preferences: Input[Dataset],
    dpo: Output[Model],
    metrics: Output[Metrics],
    task_config: dsl.TaskConfig,
) -> None:
    """Aligns the fine-tuned model with preference pairs on the nodes of a TrainJob; stops at the last healthy checkpoint."""
    from imagewright.jobs.component import run_component

    inputs = {"sft": sft, "preferences": preferences}
    run_component("align-dpo", config, inputs=inputs, output=dpo, metrics=metrics, task_config=task_config)
