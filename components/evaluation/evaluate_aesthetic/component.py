"""Kubeflow component of the job `evaluate-aesthetic`."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def evaluate_aesthetic(
    config: str,
    aes: Input[Model],
    sft: Input[Model],
    vae: Input[Model],
    curated: Input[Dataset],
    evidence: Output[Artifact],
    metrics: Output[Metrics],
    report: Output[HTML],
    base: Input[Model] = None,
) -> None:
    """Says whether the aesthetic model may rank this generator's samples."""
    from imagewright.jobs.component import run_component

    run_component(
        "evaluate-aesthetic",
        config,
        inputs={"aes": aes, "sft": sft, "vae": vae, "curated": curated, "base": base},
        output=evidence,
        metrics=metrics,
        report=report,
    )
