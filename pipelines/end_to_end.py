"""Raw pool to champion: the whole system in one graph."""

from collections.abc import Callable
from typing import Any

from imagewright_components.training.pretrain_dit.component import pretrain_dit
from imagewright_pipelines import data_curation
from imagewright_pipelines.placement import place
from kfp import dsl

from imagewright.config.placement import PlacementConfig


def build(placement: PlacementConfig) -> Callable[..., Any]:
    """Builds the pipeline with every task placed."""
    curate = data_curation.build(placement)

    @dsl.pipeline(name="end-to-end")
    def end_to_end(config: str) -> None:
        """Makes a model from nothing but sources.

        1. data-curation: ingest, curate, autoencoder, encode
        2. pretrain-dit: flow matching, one resolution after another
        """
        data = curate(config=config)
        place(pretrain_dit(config=config, latents=data.outputs["latents"]), "train", placement)

    return end_to_end
