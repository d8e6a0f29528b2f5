"""Job score-samples: one work slice of the pool's partitions through every scorer; curate-manifest finds the results in the store."""

from __future__ import annotations

from imagewright.jobs.curate_manifest import aesthetic_champion, scorer_of
from imagewright.jobs.job import Job, JobContext, Outcome

JOB = Job(
    name="score-samples",
    stage="curate",
    inputs=("raw",),
    optional_inputs=("aes",),
    implied=aesthetic_champion,
    sections=("curation",),
    kind="none",
    keyed=False,
)


def run(context: JobContext) -> Outcome:
    """Walks every num_slices-th partition from `curation.slice_index` on. It has no payload: results are shared by content digest, and a
    retried slice redoes only what is missing.
    """
    from imagewright.curation.curate import score
    from imagewright.curation.shared_results import StoreResults

    section = context.config.curation
    raw, shared = context.input_path("raw"), StoreResults(context.store)
    return Outcome(counts=score(raw, section, context.work, shared, section.slice_index, scorer_of(context)))
