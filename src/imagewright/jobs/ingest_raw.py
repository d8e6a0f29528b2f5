"""Job ingest-raw: sources -> shards and the raw manifest."""

from __future__ import annotations

from imagewright.jobs.job import Job, JobContext, Outcome

JOB = Job(name="ingest-raw", stage="ingest", inputs=(), sections=("data",), kind="dataset", dataset="raw")


def run(context: JobContext) -> Outcome:
    """Draws, renders and copies every enabled source into `context.output`. Sample keys follow the run's seed, not the job's."""
    from imagewright.sources.ingest import ingest

    return Outcome(counts=ingest(context.config.data, context.output, context.config.seed))
