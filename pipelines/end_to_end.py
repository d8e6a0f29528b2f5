"""Raw pool to champion: the whole system in one graph."""

from collections.abc import Callable
from typing import Any

from imagewright_components.evaluation.evaluate_models.component import evaluate_models
from imagewright_components.evaluation.write_report.component import write_report
from imagewright_components.registry.promote_model.component import promote_model
from imagewright_components.serving.export_bundle.component import export_bundle
from imagewright_components.training.pretrain_dit.component import pretrain_dit
from imagewright_pipelines import aesthetic_model, data_curation, post_training
from imagewright_pipelines.placement import place
from kfp import dsl

from imagewright.config.placement import PlacementConfig


def build(placement: PlacementConfig) -> Callable[..., Any]:
    """Builds the pipeline with every task placed."""
    curate, align = data_curation.build(placement), post_training.build(placement)
    score = aesthetic_model.build(placement)

    @dsl.pipeline(name="end-to-end")
    def end_to_end(config: str) -> None:
        """Makes a model from nothing but sources, and promotes it when its gate passes.

        1. data-curation: ingest, curate, autoencoder, encode
        2. aesthetic-model: the scorer of curation, preferences and evaluation
        3. pretrain-dit: flow matching, one resolution after another
        4. post-training: top-down data, fine-tuning, domain experts
        5. evaluate-models: every model of the lineage on the same prompts and seeds
        6. export-bundle: a servable diffusers folder
        7. promote-model: register, judge, make champion
        8. write-report: whatever happened before it
        """
        with dsl.ExitHandler(place(write_report(config=config), "control", placement)):
            data = curate(config=config)
            curated, vae, latents = data.outputs["curated"], data.outputs["vae"], data.outputs["latents"]
            score(config=config, curated=curated)
            base = place(pretrain_dit(config=config, latents=latents), "train", placement).outputs["base"]
            sft = align(config=config, base=base, curated=curated, latents=latents).output
            results = place(evaluate_models(config=config, base=base, sft=sft, vae=vae, curated=curated), "evaluate", placement)
            bundle = place(export_bundle(config=config, model=sft, vae=vae), "control", placement)
            place(
                promote_model(config=config, bundle=bundle.outputs["bundle"], results=results.outputs["results"], base=base, sft=sft),
                "control",
                placement,
            )

    return end_to_end
