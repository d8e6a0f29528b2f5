"""Raw pool to encoded dataset."""

from collections.abc import Callable
from typing import Any, NamedTuple

from imagewright_components.data.curate_manifest.component import curate_manifest
from imagewright_components.data.encode_latents.component import encode_latents
from imagewright_components.data.ingest_raw.component import ingest_raw
from imagewright_components.data.score_samples.component import score_samples
from imagewright_components.training.train_vae.component import train_vae
from imagewright_pipelines.placement import place
from kfp import dsl
from kfp.dsl import Dataset, Model

from imagewright.config.placement import PlacementConfig


class CuratedData(NamedTuple):
    """What the later stages read."""

    curated: Dataset
    vae: Model
    latents: Dataset


def build(placement: PlacementConfig) -> Callable[..., Any]:
    """Builds the pipeline with every task placed."""

    @dsl.pipeline(name="data-curation")
    def data_curation(config: str) -> CuratedData:
        """Curates and encodes the training data.

        1. ingest-raw: sources to shards and a raw manifest
        2. score-samples: the scores of one slice of the pool, where placement asks for slices
        3. curate-manifest: scores, deduplicates, categorises, captions, filters, weighs
        4. train-vae: the autoencoder of machines without a released one
        5. encode-latents: latents and prompt embeddings, bucket by bucket
        """
        raw = place(ingest_raw(config=config), "data", placement)
        curated = place(curate_manifest(config=config, raw=raw.outputs["raw"]), "data", placement)
        if placement.score_slices > 1:
            with dsl.ParallelFor(list(range(placement.score_slices)), name="slices") as slice_index:
                given = {"slice_index": slice_index, "num_slices": placement.score_slices, "raw": raw.outputs["raw"]}
                scored = place(score_samples(config=config, **given), "data", placement)
            curated.after(scored)
        vae = place(train_vae(config=config, curated=curated.outputs["curated"]), "train", placement)
        latents = place(encode_latents(config=config, curated=curated.outputs["curated"], vae=vae.outputs["vae"]), "train", placement)
        return CuratedData(curated=curated.outputs["curated"], vae=vae.outputs["vae"], latents=latents.outputs["latents"])

    return data_curation
