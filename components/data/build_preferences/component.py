"""Kubeflow component of the job `build-preferences`."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def build_preferences(
    config: str,
    sft: Input[Model],
    vae: Input[Model],
    curated: Input[Dataset],
    preferences: Output[Dataset],
    metrics: Output[Metrics],
    aes: Input[Model] = None,
    aes_evidence: Input[Artifact] = None,
    votes: Input[Dataset] = None,
) -> None:
    """Samples the fine-tuned model and pairs samples of a prompt: as people voted, or else the best ranked with the worst."""
    from imagewright.jobs.component import run_component

    run_component(
        "build-preferences",
        config,
        inputs={"sft": sft, "vae": vae, "curated": curated, "aes": aes, "aes_evidence": aes_evidence, "votes": votes},
        output=preferences,
        metrics=metrics,
    )
