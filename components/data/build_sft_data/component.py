"""Kubeflow component of the job `build-sft-data`."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Output


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def build_sft_data(
    config: str,
    curated: Input[Dataset],
    latents: Input[Dataset],
    sft_data: Output[Dataset],
    metrics: Output[Metrics],
) -> None:
    """Selects the high-demand domains and diversifies their prompts."""
    from imagewright.jobs.component import run_component

    run_component("build-sft-data", config, inputs={"curated": curated, "latents": latents}, output=sft_data, metrics=metrics)
