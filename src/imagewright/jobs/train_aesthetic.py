"""Job `train-aesthetic`: curated images -> the aesthetic model `aes`, from people's votes or, where nobody has voted, simulated ratings."""

from __future__ import annotations

from imagewright.jobs.job import Job, JobContext, Outcome

JOB = Job(name="train-aesthetic", stage="aes", kind="model", inputs=("curated",), optional_inputs=("votes",), sections=("aes", "training"))


def run(context: JobContext) -> Outcome:
    """Writes `aes/`, `metrics.json` and `report.html`; everything in it says whether the ratings are human or simulated.

    `votes`: an export of tournaments (`imagewright annotate export`) whose items are named by sample keys.
    """
    from imagewright.methods.aesthetic_run import AestheticRun, train_aesthetic
    from imagewright.methods.aesthetic_votes import train_on_votes
    from imagewright.training.archive import ArchivePlace

    voted = "votes" in context.inputs
    settings = AestheticRun(
        aes=context.config.aes,
        training=context.config.training,
        curated=context.input_path("curated"),
        curated_digest=context.inputs["curated"].record.digest,
        work=context.work,
        seed=context.seed,
        archive=ArchivePlace(context.store, context.archive) if context.archive else None,
        votes_digest=context.inputs["votes"].record.digest if voted else "",
    )
    if voted:
        return train_on_votes(settings, context.input_path("votes"), context.output, context.run, context.console)
    return train_aesthetic(settings, context.output, context.run, context.console)
