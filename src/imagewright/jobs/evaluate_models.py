"""Job evaluate-models: models of a lineage -> results.json, a fixed-seed grid and the metrics the gate reads."""

from __future__ import annotations

from imagewright.jobs.job import Job, JobContext, Outcome

LINEAGE = ("base", "sft", "dpo", "turbo")

JOB = Job(
    name="evaluate-models",
    stage="evaluate",
    kind="results",
    inputs=("base", "vae", "curated"),
    optional_inputs=("sft", "dpo", "turbo"),
    sections=("evaluation", "text_encoder"),
)


def run(context: JobContext) -> Outcome:
    """Evaluates every given model on the same prompts and seeds; the judge is calibrated first and may be refused."""
    from imagewright.evaluation.generation import StoreCache
    from imagewright.evaluation.runner import EvaluatedModel, evaluate, metrics_of
    from imagewright.models.text_encoder import load_text_encoder

    models = []
    for lineage in LINEAGE:
        if lineage in context.inputs:
            record = context.inputs[lineage].record
            models.append(EvaluatedModel(lineage, context.input_path(lineage), record.digest, record.revision))
    results = evaluate(
        context.config.evaluation,
        models,
        vae_folder=context.input_path("vae") / "vae",
        text_encoder=load_text_encoder(context.config.text_encoder),
        curated=context.input_path("curated"),
        cache=StoreCache(context.store),
        output=context.output,
        seed=context.config.seed,
    )
    metrics = metrics_of(results)
    context.run.log_metrics(metrics, 0)
    context.run.log_artifact(context.output / results.grid, "grids")
    return Outcome(counts={"num_models": len(models), "num_prompts": len(results.prompts)}, metrics=metrics)
