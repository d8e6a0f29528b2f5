"""Job curate-manifest: raw pool -> curated manifest with captions, categories, decisions and sampling weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagewright.jobs.champions import aes_champion
from imagewright.jobs.job import Job, JobContext, Outcome

if TYPE_CHECKING:
    from imagewright.curation.look import AestheticPayload


JOB = Job(
    name="curate-manifest",
    stage="curate",
    inputs=("raw",),
    optional_inputs=("earlier", "aes"),
    implied=aes_champion(lambda config: config.curation.sampling.look == "champion"),
    sections=("curation",),
    kind="dataset",
    dataset="curated",
)


def run(context: JobContext) -> Outcome:
    """Scores what is not scored yet, partition by partition, then decides. `earlier`: a former curated revision to stay clear of.

    `aes`: the aesthetic model that the sampling mix is weighed by; the champion when none is given.
    """
    from imagewright.curation.curate import curate
    from imagewright.curation.shared_results import StoreResults

    earlier = context.inputs["earlier"].path if "earlier" in context.inputs else None
    section, shared, scorer = context.config.curation, StoreResults(context.store), scorer_of(context)
    curated = curate(context.input_path("raw"), context.output, section, context.work, context.seed, shared, earlier, scorer)
    counts = dict(curated.counts)
    context.run.log_metrics(
        {"data/num_in": counts["num_in"], "data/num_kept": counts["num_kept"], "data/num_dropped": counts["num_dropped"]}, step=0
    )
    context.run.set_tags({"look": "statistic" if scorer is None else scorer.revision or scorer.digest})
    return Outcome(counts=counts, report=curated.report)


def scorer_of(context: JobContext) -> AestheticPayload | None:
    """The input `aes` as a scorer; None without it."""
    from imagewright.curation.look import AestheticPayload

    if "aes" not in context.inputs:
        return None
    found = context.inputs["aes"]
    return AestheticPayload(found.record.digest, found.path, found.record.revision)
