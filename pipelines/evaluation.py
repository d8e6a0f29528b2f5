"""Models of a lineage to results and a report."""

from collections.abc import Callable
from typing import Any

from imagewright_components.evaluation.evaluate_models.component import evaluate_models
from imagewright_pipelines.by_name import by_name
from imagewright_pipelines.placement import place
from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model

from imagewright.config.placement import PlacementConfig


def build(placement: PlacementConfig) -> Callable[..., Any]:
    """Builds the pipeline with every task placed."""

    @dsl.pipeline(name="evaluation")
    def evaluation(
        config: str,
        base: Input[Model],
        vae: Input[Model],
        curated: Input[Dataset],
        sft: Input[Model],
        dpo: Input[Model],
        turbo: Input[Model],
    ) -> Artifact:
        """Scores models.

        1. evaluate-models: every model given, on the same prompts and seeds
        """
        task = evaluate_models(config=config, base=base, vae=vae, curated=curated, sft=sft, dpo=dpo, turbo=turbo)
        return place(task, "evaluate", placement).outputs["results"]

    return evaluation


def build_by_name(placement: PlacementConfig) -> Callable[..., Any]:
    """The pipeline on records of earlier work; models that were not made may be left out."""
    tuned = ("sft", "dpo", "turbo")
    return by_name(build(placement), placement, datasets=("curated",), models=("base", "vae", *tuned), optional=tuned)
