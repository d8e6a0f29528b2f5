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
        enhancer: Input[Model],
        aes: Input[Model],
    ) -> Artifact:
        """Scores models.

        1. evaluate-models: every model given, on the same prompts and seeds, with and without the enhancer
        """
        models = {"base": base, "sft": sft, "dpo": dpo, "turbo": turbo}
        task = evaluate_models(config=config, vae=vae, curated=curated, enhancer=enhancer, aes=aes, **models)
        return place(task, "evaluate", placement).outputs["results"]

    return evaluation


def build_by_name(placement: PlacementConfig) -> Callable[..., Any]:
    """The pipeline on records of earlier work; models that were not made may be left out, and aes@champion stands in for `aes`."""
    tuned = ("sft", "dpo", "turbo", "enhancer", "aes")
    return by_name(build(placement), placement, datasets=("curated",), models=("base", "vae", *tuned), optional=tuned)
