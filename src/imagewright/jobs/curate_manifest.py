"""Job curate-manifest: raw pool -> curated manifest with captions, categories, decisions and sampling weights."""

from __future__ import annotations

from imagewright.jobs.job import Job, JobContext, Outcome

JOB = Job(
    name="curate-manifest",
    stage="curate",
    inputs=("raw",),
    optional_inputs=("earlier",),
    sections=("curation",),
    kind="dataset",
    dataset="curated",
)


def run(context: JobContext) -> Outcome:
    """Scores what is not scored yet, partition by partition, then decides. `earlier`: a former curated revision to stay clear of."""
    from imagewright.curation.curate import curate
    from imagewright.curation.shared_results import StoreResults

    earlier = context.inputs["earlier"].path if "earlier" in context.inputs else None
    section = context.config.curation
    curated = curate(context.input_path("raw"), context.output, section, context.work, context.seed, StoreResults(context.store), earlier)
    counts = dict(curated.counts)
    context.run.log_metrics(
        {"data/num_in": counts["num_in"], "data/num_kept": counts["num_kept"], "data/num_dropped": counts["num_dropped"]}, step=0
    )
    return Outcome(counts=counts, report=curated.report)
