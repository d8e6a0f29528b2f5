"""Job `distill-turbo`: model weights, their experts and prompts -> a student of few steps that needs no guidance."""

from __future__ import annotations

from imagewright.jobs.job import Job, JobContext, Outcome

JOB = Job(
    name="distill-turbo",
    stage="turbo",
    kind="model",
    inputs=("model", "latents"),
    optional_inputs=("experts",),
    sections=("distill", "training"),
)


def run(context: JobContext) -> Outcome:
    """Folds guidance into the student, then matches distributions; who taught what is in `routing.json`."""
    from imagewright.methods.mt_dmd_run import Distillation, run_distillation
    from imagewright.training.archive import ArchivePlace

    experts = context.inputs.get("experts")
    settings = Distillation(
        distill=context.config.distill,
        training=context.config.training,
        model=context.input_path("model"),
        model_digest=context.inputs["model"].record.digest,
        latents=context.input_path("latents"),
        work=context.work,
        seed=context.seed,
        archive=ArchivePlace(context.store, context.archive) if context.archive else None,
        experts=experts.path if experts else None,
        experts_digest=experts.record.digest if experts else "",
    )
    metrics, counts = run_distillation(settings, context.output, context.run, context.console)
    return Outcome(metrics=metrics, counts=counts)
