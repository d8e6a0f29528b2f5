"""Kubeflow component of the job `score-aesthetic`."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def score_aesthetic(
    config: str,
    curated: Input[Dataset],
    scores: Output[Dataset],
    metrics: Output[Metrics],
    aes: Input[Model] = None,
) -> None:
    """Scores every curated image with the aesthetic model given, or the registered one."""
    from imagewright.jobs.component import run_component

    run_component("score-aesthetic", config, inputs={"curated": curated, "aes": aes}, output=scores, metrics=metrics)
