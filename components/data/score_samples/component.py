"""Kubeflow component of the job `score-samples`: one of many that share a pool."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Output


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def score_samples(
    config: str,
    slice_index: int,
    num_slices: int,
    raw: Input[Dataset],
    scored: Output[Dataset],
    metrics: Output[Metrics],
) -> None:
    """Scores every num_slices-th partition of the pool; the results are found by curate-manifest in the store."""
    from imagewright.jobs.component import run_component

    chosen = {"curation": {"slice_index": slice_index, "num_slices": num_slices}}
    run_component("score-samples", config, inputs={"raw": raw}, output=scored, metrics=metrics, changes=chosen)
