"""Job `train-aesthetic`: curated images -> the aesthetic model `aes`, from simulated ratings where nobody has voted."""

from __future__ import annotations

from imagewright.jobs.job import Job, JobContext, Outcome

JOB = Job(name="train-aesthetic", stage="aes", kind="model", inputs=("curated",), sections=("aes", "training"))


def run(context: JobContext) -> Outcome:
    """Writes `aes/`, `annotations/`, `metrics.json` and `report.html`; everything in it says that the ratings are simulated."""
    from imagewright.methods.aesthetic_run import AestheticRun, train_aesthetic
    from imagewright.training.archive import ArchivePlace

    settings = AestheticRun(
        aes=context.config.aes,
        training=context.config.training,
        curated=context.input_path("curated"),
        curated_digest=context.inputs["curated"].record.digest,
        work=context.work,
        seed=context.seed,
        archive=ArchivePlace(context.store, context.archive) if context.archive else None,
    )
    return train_aesthetic(settings, context.output, context.run, context.console)
