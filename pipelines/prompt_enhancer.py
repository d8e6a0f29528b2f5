"""Curated captions to the prompt enhancer."""

from collections.abc import Callable
from typing import Any

from imagewright_components.training.train_enhancer.component import train_enhancer
from imagewright_pipelines.by_name import by_name
from imagewright_pipelines.placement import place
from kfp import dsl
from kfp.dsl import Dataset, Input, Model

from imagewright.config.placement import PlacementConfig


def build(placement: PlacementConfig) -> Callable[..., Any]:
    """Builds the pipeline with every task placed: the language model before there is an image model."""

    @dsl.pipeline(name="prompt-enhancer")
    def prompt_enhancer(config: str, curated: Input[Dataset]) -> Model:
        """Trains the language model that expands short prompts.

        1. train-enhancer: reverse pairs, then fine-tuning on the assistant's tokens
        """
        return place(train_enhancer(config=config, curated=curated), "train", placement).outputs["enhancer"]

    return prompt_enhancer


def build_by_name(placement: PlacementConfig) -> Callable[..., Any]:
    """The pipeline on records of earlier work; a trained image model with its VAE, and a scorer, may judge the expansions."""

    @dsl.pipeline(name="prompt-enhancer")
    def prompt_enhancer(config: str, curated: Input[Dataset], model: Input[Model], vae: Input[Model], aes: Input[Model]) -> Model:
        """Trains the language model that expands short prompts.

        1. train-enhancer: reverse pairs, fine-tuning on the assistant's tokens, then rewards of its own expansions where steps are set
        """
        task = train_enhancer(config=config, curated=curated, model=model, vae=vae, aes=aes)
        return place(task, "train", placement).outputs["enhancer"]

    judges = ("model", "vae", "aes")
    return by_name(prompt_enhancer, placement, datasets=("curated",), models=judges, optional=judges)
