"""Base weights to aligned weights: top-down data, supervised fine-tuning with domain experts, preferences, alignment."""

from collections.abc import Callable
from typing import Any, NamedTuple

from imagewright_components.data.build_preferences.component import build_preferences
from imagewright_components.data.build_sft_data.component import build_sft_data
from imagewright_components.evaluation.evaluate_aesthetic.component import evaluate_aesthetic
from imagewright_components.training.align_dpo import launcher as dpo_launcher
from imagewright_components.training.align_dpo.component import align_dpo
from imagewright_components.training.finetune_sft import launcher as sft_launcher
from imagewright_components.training.finetune_sft.component import finetune_sft
from imagewright_components.training.judge_alignment.component import judge_alignment
from imagewright_pipelines.by_name import by_name
from imagewright_pipelines.placement import place, place_training
from kfp import dsl
from kfp.dsl import Dataset, Input, Model

from imagewright.config.placement import PlacementConfig


class TunedModel(NamedTuple):
    """What distillation and evaluation read."""

    sft: Model
    sft_data: Dataset
    dpo: Model
    aligned: Model


def tune_and_align(placement: PlacementConfig, config: Any, given: dict[str, Any], **votes: Any) -> TunedModel:
    """The tasks; `given` holds the artifacts, `votes` people's votes on the fine-tuned model's samples where the graph has them."""
    vae, curated, aes = given["vae"], given["curated"], given["aes"]
    data = place(build_sft_data(config=config, curated=curated, latents=given["latents"]), "data", placement)
    domains = {"base": given["base"], "sft_data": data.outputs["sft_data"], "vae": vae}
    tuned = place_training(finetune_sft, sft_launcher.finetune_sft, placement, config=config, **domains)
    sft = tuned.outputs["sft"]
    measured = evaluate_aesthetic(config=config, aes=aes, sft=sft, vae=vae, curated=curated, base=given["base"])
    evidence = place(measured, "evaluate", placement).outputs["evidence"]
    ranked = build_preferences(config=config, sft=sft, vae=vae, curated=curated, aes=aes, aes_evidence=evidence, **votes)
    pairs = place(ranked, "evaluate", placement)
    ranking = {"sft": sft, "preferences": pairs.outputs["preferences"]}
    dpo = place_training(align_dpo, dpo_launcher.align_dpo, placement, config=config, **ranking).outputs["dpo"]
    judged = place(judge_alignment(config=config, sft=sft, dpo=dpo, vae=vae, curated=curated), "evaluate", placement)
    return TunedModel(sft=sft, sft_data=data.outputs["sft_data"], dpo=dpo, aligned=judged.outputs["aligned"])


def build(placement: PlacementConfig) -> Callable[..., Any]:
    """Builds the pipeline with every task placed."""

    @dsl.pipeline(name="post-training")
    def post_training(
        config: str, base: Input[Model], vae: Input[Model], curated: Input[Dataset], latents: Input[Dataset], aes: Input[Model]
    ) -> TunedModel:
        """Fine-tunes and aligns a base model.

        1. build-sft-data: high-demand domains with diversified prompts
        2. finetune-sft: fine-tuning, then one LoRA expert per domain
        3. evaluate-aesthetic: whether the aesthetic model may rank this model's samples
        4. build-preferences: the fine-tuned model's own samples, ranked and paired
        5. align-dpo: stabilised preference training
        6. judge-alignment: the aligned model goes on where it is shown to be better, else the fine-tuned one
        """
        return tune_and_align(placement, config, {"base": base, "vae": vae, "curated": curated, "latents": latents, "aes": aes})

    return post_training


def build_by_name(placement: PlacementConfig) -> Callable[..., Any]:
    """The pipeline on records of earlier work, with people's votes on its samples where there are any, and aes@champion where no
    aesthetic model is given."""

    @dsl.pipeline(name="post-training")
    def post_training(
        config: str,
        base: Input[Model],
        vae: Input[Model],
        curated: Input[Dataset],
        latents: Input[Dataset],
        aes: Input[Model],
        votes: Input[Dataset],
    ) -> TunedModel:
        """Fine-tunes and aligns a base model.

        1. the tasks of `build`; build-preferences pairs samples as people voted
        """
        given = {"base": base, "vae": vae, "curated": curated, "latents": latents, "aes": aes}
        return tune_and_align(placement, config, given, votes=votes)

    datasets, models = ("curated", "latents", "votes"), ("base", "vae", "aes")
    return by_name(post_training, placement, datasets=datasets, models=models, optional=("aes", "votes"))
