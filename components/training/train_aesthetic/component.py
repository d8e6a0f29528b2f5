"""Kubeflow component of the job `train-aesthetic`."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def train_aesthetic(
    config: str,
    curated: Input[Dataset],
    aes: Output[Model],
    metrics: Output[Metrics],
    report: Output[HTML],
    votes: Input[Dataset] = None,
) -> None:
    """Trains the aesthetic model from people's votes, or from simulated ratings where nobody has voted."""
    from imagewright.jobs.component import run_component

    run_component("train-aesthetic", config, inputs={"curated": curated, "votes": votes}, output=aes, metrics=metrics, report=report)
