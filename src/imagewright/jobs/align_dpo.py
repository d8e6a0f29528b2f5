"""Job `align-dpo`: SFT weights and preference pairs -> aligned weights, or the SFT weights where there is nothing healthy to learn."""

from __future__ import annotations

from imagewright.jobs.job import Job, JobContext, Outcome

JOB = Job(
    name="align-dpo",
    stage="dpo",
    kind="model",
    model="dpo",
    inputs=("sft", "preferences"),
    sections=("dpo", "training"),
    distributed=True,
)


def run(context: JobContext) -> Outcome:
    """Stabilised DPO; stops at the last healthy checkpoint when the errors drift."""
    from imagewright.methods.dpo_run import DpoRun, run_dpo
    from imagewright.training.archive import ArchivePlace
    from imagewright.training.world import open_world

    settings = DpoRun(
        dpo=context.config.dpo,
        training=context.config.training,
        sft=context.input_path("sft"),
        sft_digest=context.inputs["sft"].record.digest,
        preferences=context.input_path("preferences"),
        work=context.work,
        seed=context.seed,
        archive=ArchivePlace(context.store, context.archive) if context.archive else None,
    )
    result = run_dpo(settings, context.output, context.run, context.console, open_world())
    return Outcome(counts=result.counts, metrics=result.metrics, skipped=result.skipped, passes_on="sft" if result.skipped else "")
