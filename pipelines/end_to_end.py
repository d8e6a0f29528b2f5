"""Raw pool to champion: the whole system in one graph."""

from collections.abc import Callable
from typing import Any

from imagewright_components.evaluation.evaluate_models.component import evaluate_models
from imagewright_components.evaluation.write_report.component import write_report
from imagewright_components.registry.promote_model.component import promote_model
from imagewright_components.serving.export_bundle.component import export_bundle
from imagewright_pipelines import aesthetic_model, data_curation, distillation, post_training, pretraining, prompt_enhancer
from imagewright_pipelines.placement import place
from kfp import dsl

from imagewright.config.placement import PlacementConfig


def build(placement: PlacementConfig) -> Callable[..., Any]:
    """Builds the pipeline with every task placed."""
    curate, align = data_curation.build(placement), post_training.build(placement)
    score, enhance = aesthetic_model.build(placement), prompt_enhancer.build(placement)
    pretrain, distil = pretraining.build(placement), distillation.build(placement)

    @dsl.pipeline(name="end-to-end")
    def end_to_end(config: str) -> None:
        """Makes a model from nothing but sources, and promotes it when its gate passes.

        1. data-curation: ingest, curate, autoencoder, encode
        2. aesthetic-model: the scorer of curation, preferences and evaluation
        3. prompt-enhancer: the language model in front of the image model
        4. pretraining: flow matching, one resolution after another
        5. post-training: top-down data, fine-tuning, domain experts, preference alignment
        6. distillation: the student of few steps, from the aligned model where it is shown to be better
        7. evaluate-models: every model of the lineage on the same prompts and seeds, with and without the enhancer
        8. export-bundle: a servable diffusers folder
        9. promote-model: register, judge, make champion
        10. write-report: whatever happened before it
        """
        with dsl.ExitHandler(place(write_report(config=config), "control", placement)):
            data = curate(config=config)
            curated, vae, latents = data.outputs["curated"], data.outputs["vae"], data.outputs["latents"]
            aes = score(config=config, curated=curated).output
            enhancer = enhance(config=config, curated=curated).output
            base = pretrain(config=config, latents=latents, vae=vae).output
            tuned = align(config=config, base=base, vae=vae, curated=curated, latents=latents, aes=aes)
            sft, dpo, aligned = (tuned.outputs[name] for name in ("sft", "dpo", "aligned"))
            turbo = distil(config=config, model=aligned, experts=sft, latents=tuned.outputs["sft_data"], vae=vae, curated=curated).output
            models = {"base": base, "sft": sft, "dpo": dpo, "turbo": turbo}
            judged = evaluate_models(config=config, vae=vae, curated=curated, enhancer=enhancer, aes=aes, **models)
            results = place(judged, "evaluate", placement).outputs["results"]
            bundle = place(export_bundle(config=config, model=turbo, vae=vae, enhancer=enhancer), "control", placement).outputs["bundle"]
            decision = promote_model(config=config, bundle=bundle, results=results, base=base, sft=sft, dpo=aligned, turbo=turbo)
            place(decision, "control", placement)

    return end_to_end
