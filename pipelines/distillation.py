"""A trained model to its student of few steps."""

from collections.abc import Callable
from typing import Any

from imagewright_components.evaluation.measure_drift.component import measure_drift
from imagewright_components.training.distill_turbo.component import distill_turbo
from imagewright_pipelines.by_name import by_name
from imagewright_pipelines.placement import place
from kfp import dsl
from kfp.dsl import Dataset, Input, Model

from imagewright.config.placement import PlacementConfig


def build(placement: PlacementConfig) -> Callable[..., Any]:
    """Builds the pipeline with every task placed."""

    @dsl.pipeline(name="distillation")
    def distillation(
        config: str, model: Input[Model], experts: Input[Model], latents: Input[Dataset], vae: Input[Model], curated: Input[Dataset]
    ) -> Model:
        """Distils a model.

        1. distill-turbo: guidance folding, then multi-teacher distribution matching
        2. measure-drift: what that cost, by domain and skill
        """
        task = distill_turbo(config=config, model=model, latents=latents, experts=experts)
        turbo = place(task, "train", placement).outputs["turbo"]
        place(measure_drift(config=config, model=model, turbo=turbo, vae=vae, curated=curated), "evaluate", placement)
        return turbo

    return distillation


def build_by_name(placement: PlacementConfig) -> Callable[..., Any]:
    """The pipeline on records of earlier work."""
    return by_name(build(placement), placement, datasets=("latents", "curated"), models=("model", "experts", "vae"))
