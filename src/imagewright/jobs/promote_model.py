"""Job `promote-model`: a bundle and its scores -> a registered version, judged by the gate, champion when it passes. Always runs."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from imagewright.errors import Problem
from imagewright.jobs.job import Job, JobContext, JobError, Outcome
from imagewright.tracking.lineage_names import IMAGE_MODELS

if TYPE_CHECKING:
    from imagewright.evaluation.results import Results
    from imagewright.tracking.scores import Score

DECISION_NAME = "decision.json"

JOB = Job(
    name="promote-model",
    stage="promote",
    kind="results",
    inputs=("bundle", "results"),
    optional_inputs=IMAGE_MODELS,
    sections=("gate", "rollout"),
    keyed=False,
)


def run(context: JobContext) -> Outcome:
    """Registers the furthest model given, attaches its scores, and promotes it; a refusal is an outcome with its reasons, not an error."""
    from imagewright.evaluation.results import read_results
    from imagewright.launch.rollout import open_rollout
    from imagewright.tracking.models import ModelOrigin, ModelRegistry
    from imagewright.tracking.promotion import Promoter

    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        raise JobError(Problem("MLFLOW_TRACKING_URI", "is not set, and models are registered there", None, "imagewright up"))
    lineage = furthest_given(context)
    results = read_results(context.input_path("results"))
    scores = version_scores(results, lineage)
    bundle, evidence = context.inputs["bundle"].record, context.inputs["results"].record
    parent = context.inputs[lineage].record.digest if lineage in context.inputs else ""
    registry = ModelRegistry(uri)
    origin = ModelOrigin(parent=parent, recipe=context.config.name, git_commit=bundle.git_commit, image=bundle.image_digest)
    version = registry.register(lineage, bundle.digest, origin, scores)
    registry.log_scores(version, {}, dict.fromkeys(suites_of(results, lineage), evidence.digest))
    for name in IMAGE_MODELS:
        # The weights on the way here were judged in the same evaluation; their own versions carry what it says of them.
        for made in registry.find(context.inputs[name].record.digest, name) if name in context.inputs else ():
            registry.log_scores(made, version_scores(results, name), dict.fromkeys(suites_of(results, name), evidence.digest))
    decision = Promoter(context.store, registry, open_rollout(context.config.rollout)).promote(
        registry.get(lineage, str(version.version)), context.config.gate
    )
    for verdict in decision.verdicts:
        context.console.print(f"{'pass' if verdict.passed else 'FAIL'} {verdict.rule}: {verdict.reason}", markup=False)
    verdicts = [{"rule": verdict.rule, "passed": verdict.passed, "reason": verdict.reason} for verdict in decision.verdicts]
    decided = {"model": str(version), "champion": decision.passed, "verdicts": verdicts}
    (context.output / DECISION_NAME).write_text(json.dumps(decided, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    refused = "; ".join(verdict.reason for verdict in decision.verdicts if not verdict.passed)
    context.run.set_tags({"promotion": "refused" if refused else "champion", "promotion_reasons": refused, "model": str(version)})
    metrics = {"promotion/passed": float(decision.passed), "promotion/version": float(version.version)}
    return Outcome(metrics=metrics, counts={"verdicts": len(decision.verdicts)}, revision=str(version))


def version_scores(results: Results, lineage: str) -> dict[str, Score]:
    """Scores of a model's row without enhancer, as its version carries them: `eval/<suite>[_<split>]/<task>`."""
    from imagewright.tracking.scores import Score

    found = {}
    row = results.model(lineage)
    for score in row.scores if row else ():
        suite = score.suite if score.split in ("", "seen") else f"{score.suite}_{score.split}"
        low, high = min(score.low, score.value), max(score.high, score.value)
        found[f"eval/{suite}/{score.task}"] = Score(score.value, low, high, results.ungated(score.suite, score.task))
    return found


def suites_of(results: Results, lineage: str) -> list[str]:
    """Suites that scored a model."""
    row = results.model(lineage)
    return sorted({score.suite for score in row.scores}) if row else []


def furthest_given(context: JobContext) -> str:
    """The furthest model given. An alignment that was not shown to help hands on the fine-tuned weights, which stay `sft`."""
    digests = {name: context.inputs[name].record.digest for name in reversed(IMAGE_MODELS) if name in context.inputs}
    if "sft" in digests and digests.get("dpo") == digests["sft"]:
        del digests["dpo"]
    return next(iter(digests), "base")
