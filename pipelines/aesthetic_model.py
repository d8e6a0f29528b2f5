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
        """Trains the model that scores how pleasing an image looks, where nobody has voted.

        1. train-aesthetic: simulated tournaments to a scorer with its figures
        """
        return place(train_aesthetic(config=config, curated=curated), "train", placement).outputs["aes"]

    return aesthetic_model


def build_by_name(placement: PlacementConfig) -> Callable[..., Any]:
    """The pipeline on records of earlier work, with people's votes where there are any."""

    @dsl.pipeline(name="aesthetic-model")
    def aesthetic_model(config: str, curated: Input[Dataset], votes: Input[Dataset]) -> Model:
        """Trains the model that scores how pleasing an image looks.

        1. train-aesthetic: tournament ratings to a scorer with its figures
        """
        return place(train_aesthetic(config=config, curated=curated, votes=votes), "train", placement).outputs["aes"]

    return by_name(aesthetic_model, placement, datasets=("curated", "votes"), optional=("votes",))
