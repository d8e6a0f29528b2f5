"""Job score-samples: one work slice of the pool's partitions through every scorer; curate-manifest finds the results in the store."""

from __future__ import annotations

import tempfile
from pathlib import Path

from imagewright.jobs.curate_manifest import JOB as CURATE
from imagewright.jobs.curate_manifest import scorer_of
from imagewright.jobs.job import Job, JobContext, Outcome

JOB = Job(
    name="score-samples",
    stage="curate",
    inputs=("raw",),
    optional_inputs=("aes",),
    implied=CURATE.implied,
    sections=("curation",),
    kind="none",
    keyed=False,
)


def run(context: JobContext) -> Outcome:
    """Walks every num_slices-th partition from `curation.slice_index` on, and downloads these partitions' shards alone.

    It has no payload: results are shared by content digest, and a retried slice redoes only what is missing.
    """
    from imagewright.curation.curate import score
    from imagewright.curation.partitions import shards_of_slice
    from imagewright.curation.shared_results import StoreResults
    from imagewright.data.manifest import MANIFEST_NAME

    section, raw = context.config.curation, context.inputs["raw"].record.digest
    with tempfile.TemporaryDirectory(dir=context.work) as name:
        pool = Path(name)
        context.store.get_files(raw, [MANIFEST_NAME], pool)
        context.store.get_files(raw, shards_of_slice(pool, section.slice_index, section.num_slices), pool)
        return Outcome(counts=score(pool, section, context.work, StoreResults(context.store), section.slice_index, scorer_of(context)))
