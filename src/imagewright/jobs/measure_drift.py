"""Job `measure-drift`: a student, the model it grew from and held-out prompts -> what distillation cost, by domain and skill."""

from __future__ import annotations

import json

from imagewright.jobs.job import Job, JobContext, Outcome

JOB = Job(
    name="measure-drift",
    stage="drift",
    kind="results",
    inputs=("model", "turbo", "vae", "curated"),
    optional_inputs=("single",),
    sections=("drift", "sft", "text_encoder"),
)


def run(context: JobContext) -> Outcome:
    """Judges every row of the drift table; rows without a model stay in it and say so."""
    from imagewright.evaluation.capability_drift import FOLDED, SINGLE, TEACHER, TURBO, ArmModel, drift_prompts, measure_drift
    from imagewright.evaluation.drift_page import GRID_NAME, write_drift
    from imagewright.evaluation.generation import StoreCache
    from imagewright.methods.mt_dmd_run import FOLDED_FOLDER, ROUTING_NAME
    from imagewright.models.text_encoder import load_text_encoder
    from imagewright.models.vae import load_vae

    config = context.config.drift
    payloads = {
        name: ArmModel(context.input_path(key), context.inputs[key].record.digest)
        for name, key in ((TEACHER, "model"), (TURBO, "turbo"), (SINGLE, "single"))
        if key in context.inputs
    }
    folded = payloads[TURBO].payload / FOLDED_FOLDER
    if folded.is_dir():
        payloads[FOLDED] = ArmModel(folded, f"{payloads[TURBO].digest}/{FOLDED_FOLDER}")
    prompts = drift_prompts(context.input_path("curated"), context.config.sft.domains, config.num_prompts, context.seed)
    report, columns = measure_drift(
        config,
        payloads,
        prompts,
        vae=load_vae(context.input_path("vae") / "vae"),
        text_encoder=load_text_encoder(context.config.text_encoder),
        cache=StoreCache(context.store),
        seed=context.seed,
    )
    routing = json.loads((payloads[TURBO].payload / ROUTING_NAME).read_text(encoding="utf-8"))
    page = write_drift(report, columns, routing, context.output)
    metrics = report.metrics()
    context.run.log_metrics(metrics, 0)
    context.run.log_artifact(context.output / GRID_NAME, "grids")
    for claim in report.claims:
        context.console.print(f"{'shown' if claim.holds else 'not shown'}: {claim.name}", markup=False)
    return Outcome(
        counts={"prompts": len(prompts), "claims_shown": sum(claim.holds for claim in report.claims)}, metrics=metrics, report=page
    )
