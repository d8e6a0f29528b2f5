"""Kubeflow component of the job `pretrain-dit` on several nodes: its own pod only launches and watches the TrainJob."""

from imagewright_components.training.handed_on import HANDED_ON
from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False, task_config_passthroughs=HANDED_ON)
def pretrain_dit(
    config: str,
    latents: Input[Dataset],
    base: Output[Model],
    metrics: Output[Metrics],
    task_config: dsl.TaskConfig,
    vae: Input[Model] = None,
) -> None:
    """Pretrains the DiT by flow matching, one resolution after another, on the nodes of a TrainJob."""
    from imagewright.jobs.component import run_component

    inputs = {"latents": latents, "vae": vae}
    run_component("pretrain-dit", config, inputs=inputs, output=base, metrics=metrics, task_config=task_config)
