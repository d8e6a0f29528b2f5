"""Kubeflow component of the job `evaluate-aesthetic`."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def evaluate_aesthetic(
    config: str,
    sft: Input[Model],
    vae: Input[Model],
    curated: Input[Dataset],
    evidence: Output[Artifact],
    metrics: Output[Metrics],
    report: Output[HTML],
    aes: Input[Model] = None,
    base: Input[Model] = None,
) -> None:
    """Says whether the aesthetic model given, or the registered one, may rank this generator's samples."""
    from imagewright.jobs.component import run_component

    run_component(
        "evaluate-aesthetic",
        config,
        inputs={"sft": sft, "vae": vae, "curated": curated, "aes": aes, "base": base},
        output=evidence,
        metrics=metrics,
        report=report,
    )
