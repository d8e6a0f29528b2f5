"""Curated images to the aesthetic model."""

from collections.abc import Callable
from typing import Any

from imagewright_components.training.train_aesthetic.component import train_aesthetic
from imagewright_pipelines.by_name import by_name
from imagewright_pipelines.placement import place
from kfp import dsl
from kfp.dsl import Dataset, Input, Model

from imagewright.config.placement import PlacementConfig


def build(placement: PlacementConfig) -> Callable[..., Any]:
    """Builds the pipeline with every task placed."""

    @dsl.pipeline(name="aesthetic-model")
    def aesthetic_model(config: str, curated: Input[Dataset]) -> Model:
        """Trains the model that scores how pleasing an image looks.

        1. train-aesthetic: tournament ratings to a scorer with its benchmark
        """
        return place(train_aesthetic(config=config, curated=curated), "train", placement).outputs["aes"]

    return aesthetic_model


def build_by_name(placement: PlacementConfig) -> Callable[..., Any]:
    """The pipeline on records of earlier work."""
    return by_name(build(placement), placement, datasets=("curated",))
