"""Job evaluate-models: models of a lineage -> results.json, a fixed-seed grid and the metrics the gate reads."""

from __future__ import annotations

from imagewright.jobs.champions import aes_champion
from imagewright.jobs.job import Job, JobContext, Outcome
from imagewright.tracking.lineage_names import IMAGE_MODELS

JOB = Job(
    name="evaluate-models",
    stage="evaluate",
    kind="results",
    inputs=("base", "vae", "curated"),
    optional_inputs=("sft", "dpo", "turbo", "enhancer", "aes"),
    implied=aes_champion(lambda config: "aes" in config.evaluation.suites),
    sections=("evaluation", "text_encoder"),
)


def run(context: JobContext) -> Outcome:
    """Evaluates every given model on the same prompts and seeds, with and without the enhancer; judges are tried first."""
    from imagewright.evaluation.enhancement import EnhancerInput
    from imagewright.evaluation.generation import StoreCache
    from imagewright.evaluation.runner import EvaluatedModel, evaluate, metrics_of
    from imagewright.models.text_encoder import load_text_encoder

    models = []
    for lineage in IMAGE_MODELS:
        if lineage in context.inputs:
            record = context.inputs[lineage].record
            models.append(EvaluatedModel(lineage, context.input_path(lineage), record.digest, record.revision))
    enhancer = context.inputs.get("enhancer")
    results = evaluate(
        context.config.evaluation,
        models,
        vae_folder=context.input_path("vae") / "vae",
        text_encoder=load_text_encoder(context.config.text_encoder),
        curated=context.input_path("curated"),
        cache=StoreCache(context.store),
        output=context.output,
        seed=context.config.seed,
        enhancer=EnhancerInput(enhancer.path, enhancer.record.digest) if enhancer else None,
        aes=context.input_path("aes") if "aes" in context.inputs else None,
    )
    for card in results.suites:
        for task, reason in card.refused.items():
            context.console.print(f"{card.suite} {task}: not scored, {reason}", markup=False, soft_wrap=True)
    metrics = metrics_of(results)
    context.run.log_metrics(metrics, 0)
    context.run.log_artifact(context.output / results.grid, "grids")
    counts = {"num_models": len(models), "num_prompts": len(results.prompts), "num_rows": len(results.models)}
    return Outcome(counts=counts, metrics=metrics)
