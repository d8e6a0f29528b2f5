"""Job `judge-alignment`: fine-tuned and aligned model -> the one that goes on: the aligned one only where it is shown to be better."""

from __future__ import annotations

from imagewright.jobs.job import Job, JobContext, Outcome

JOB = Job(
    name="judge-alignment",
    stage="align",
    kind="model",
    inputs=("sft", "dpo", "vae", "curated"),
    sections=("alignment", "text_encoder"),
)


def run(context: JobContext) -> Outcome:
    """Hands on `dpo` when its win rate is above one half by a judge that did not rank the pairs, else `sft`. Trains no weights."""
    sft, dpo = context.inputs["sft"].record, context.inputs["dpo"].record
    if sft.digest == dpo.digest:
        return Outcome(skipped="nothing was aligned: sft goes on", passes_on="sft")
    from imagewright.evaluation.alignment import judge_alignment
    from imagewright.evaluation.capability_drift import ArmModel
    from imagewright.evaluation.generation import StoreCache
    from imagewright.models.text_encoder import load_text_encoder
    from imagewright.models.vae import load_vae

    verdict = judge_alignment(
        context.config.alignment,
        ArmModel(context.input_path("sft"), sft.digest),
        ArmModel(context.input_path("dpo"), dpo.digest),
        context.input_path("curated"),
        vae=load_vae(context.input_path("vae") / "vae"),
        text_encoder=load_text_encoder(context.config.text_encoder),
        cache=StoreCache(context.store),
        seed=context.seed,
    )
    chosen = "dpo" if verdict.shown else "sft"
    context.run.log_metrics(verdict.metrics(), 0)
    context.console.print(verdict.reason, markup=False, highlight=False)
    counts = {"prompts": verdict.num_prompts}
    return Outcome(counts=counts, metrics=verdict.metrics(), skipped=f"{verdict.reason}: {chosen} goes on", passes_on=chosen)
