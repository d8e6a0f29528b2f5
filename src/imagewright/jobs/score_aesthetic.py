"""Job `score-aesthetic`: curated images -> a score of each, by the aesthetic model given or the registered one."""

from __future__ import annotations

import os

from imagewright.errors import Problem
from imagewright.jobs.job import Job, JobContext, JobError, Outcome

JOB = Job(
    name="score-aesthetic",
    stage="aes",
    kind="dataset",
    dataset="aes-scores",
    inputs=("curated",),
    optional_inputs=("aes",),
    sections=("aes",),
    keyed=False,  # an alias may have moved; finished partitions are found by the model's digest instead
)


def run(context: JobContext) -> Outcome:
    """Walks the manifest in partitions; those scored before by the same weights are taken from the store."""
    from imagewright.curation.aes_scores import score_manifest
    from imagewright.curation.shared_results import StoreResults
    from imagewright.models.aesthetic import load_scorer

    config = context.config.aes
    if "aes" in context.inputs:
        digest, revision, folder = context.inputs["aes"].record.digest, context.inputs["aes"].record.revision, context.input_path("aes")
    else:
        digest, revision = registered(config.registered)
        folder = context.work / digest
        if not folder.exists():
            context.store.get(digest, folder)
    scorer = load_scorer(folder)
    counts = score_manifest(
        context.input_path("curated"),
        scorer,
        digest,
        context.output,
        StoreResults(context.store),
        side_px=scorer.config.side_px,
        partition_samples=config.score_partition,
    )
    context.run.set_tags({"annotations": scorer.origin, "aes": revision or digest})
    return Outcome(counts=counts)


def registered(reference: str) -> tuple[str, str]:
    """Payload digest and `aes@N` of a registered model. Raises JobError without a tracking server, ModelError for an unknown alias."""
    from imagewright.tracking.models import ModelRegistry, parse_reference

    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        fix = "give the input aes, or run `imagewright up`"
        raise JobError(Problem("MLFLOW_TRACKING_URI", f"is not set, and {reference} is looked up there", None, fix))
    version = ModelRegistry(uri).get(*parse_reference(reference))
    return version.digest, str(version)
