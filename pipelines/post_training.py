"""Base weights to aligned weights: top-down data, supervised fine-tuning with domain experts."""

from collections.abc import Callable
from typing import Any, NamedTuple

from imagewright_components.data.build_sft_data.component import build_sft_data
from imagewright_components.training.finetune_sft.component import finetune_sft
from imagewright_pipelines.placement import place
from kfp import dsl
from kfp.dsl import Dataset, Input, Model

from imagewright.config.placement import PlacementConfig


class TunedModel(NamedTuple):
    """What distillation and evaluation read."""

    sft: Model
    sft_data: Dataset


def build(placement: PlacementConfig) -> Callable[..., Any]:
    """Builds the pipeline with every task placed."""

    @dsl.pipeline(name="post-training")
    def post_training(config: str, base: Input[Model], curated: Input[Dataset], latents: Input[Dataset]) -> TunedModel:
        """Fine-tunes a base model.

        1. build-sft-data: high-demand domains with diversified prompts
        2. finetune-sft: full fine-tuning, then one LoRA expert per domain
        """
        data = place(build_sft_data(config=config, curated=curated, latents=latents), "data", placement)
        tuned = place(finetune_sft(config=config, base=base, sft_data=data.outputs["sft_data"]), "train", placement)
        return TunedModel(sft=tuned.outputs["sft"], sft_data=data.outputs["sft_data"])

    return post_training
