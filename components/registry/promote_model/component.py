"""Kubeflow component of the job `promote-model`."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Metrics, Model, Output


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def promote_model(
    config: str,
    bundle: Input[Model],
    results: Input[Artifact],
    decision: Output[Artifact],
    metrics: Output[Metrics],
    base: Input[Model] = None,
    sft: Input[Model] = None,
    dpo: Input[Model] = None,
    turbo: Input[Model] = None,
) -> None:
    """Registers the bundle with its scores and makes it champion when the gate passes."""
    from imagewright.jobs.component import run_component

    inputs = {"bundle": bundle, "results": results, "base": base, "sft": sft, "dpo": dpo, "turbo": turbo}
    run_component("promote-model", config, inputs=inputs, output=decision, metrics=metrics)
