"""Encoded data to base weights."""

from collections.abc import Callable
from typing import Any

from imagewright_components.training.pretrain_dit import launcher
from imagewright_components.training.pretrain_dit.component import pretrain_dit
from imagewright_pipelines.by_name import by_name
from imagewright_pipelines.placement import place_training
from kfp import dsl
from kfp.dsl import Dataset, Input, Model

from imagewright.config.placement import PlacementConfig


def build(placement: PlacementConfig) -> Callable[..., Any]:
    """Builds the pipeline with every task placed; on more than one node the step launches a TrainJob."""

    @dsl.pipeline(name="pretraining")
    def pretraining(config: str, latents: Input[Dataset], vae: Input[Model]) -> Model:
        """Pretrains the base model.

        1. pretrain-dit: flow matching, one resolution after another
        """
        task = place_training(pretrain_dit, launcher.pretrain_dit, placement, config=config, latents=latents, vae=vae)
        return task.outputs["base"]

    return pretraining


def build_by_name(placement: PlacementConfig) -> Callable[..., Any]:
    """The pipeline on records of earlier work."""
    return by_name(build(placement), placement, datasets=("latents",), models=("vae",), optional=("vae",))
