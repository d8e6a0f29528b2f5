"""Job `evaluate-aesthetic`: the aesthetic model on a generator's own pictures -> the evidence that lets it rank pairs, or not."""

from __future__ import annotations

import os

from imagewright.errors import InputError, Problem
from imagewright.jobs.champions import aes_champion
from imagewright.jobs.job import Job, JobContext, Outcome

NONE_NAME = "none.txt"
JOB = Job(
    name="evaluate-aesthetic",
    stage="aes",
    kind="results",
    inputs=("sft", "vae", "curated"),
    optional_inputs=("aes", "base"),
    implied=aes_champion(lambda config: True),
    sections=("aes", "preferences", "text_encoder"),
)


def run(context: JobContext) -> Outcome:
    """Measures agreement with exact shape integrity, and registers the model `aes` with it where there is a tracking server.

    `aes`: the champion when none is given. Where there is neither, nothing ranks by looks: the evidence says so, and InputError is raised
    when `preferences.aes_weight` asks for more.
    """
    if "aes" not in context.inputs and context.config.preferences.aes_weight == 0:
        (context.output / NONE_NAME).write_text(
            "No aesthetic model was given or promoted, and preferences.aes_weight is 0.\n", encoding="utf-8"
        )
        return Outcome(metrics={"aesthetic/may_rank": 0.0})
    if "aes" not in context.inputs:
        text = "was not given, and no aesthetic model was promoted"
        raise InputError(Problem("input aes", text, None, "give one, or imagewright promote aes@N"))
    from imagewright.evaluation.generation import load_generator
    from imagewright.methods.aesthetic_evidence import EvidenceRun, baseline_of, measure_evidence, metrics_of
    from imagewright.models.aesthetic import load_scorer
    from imagewright.models.text_encoder import load_text_encoder
    from imagewright.models.vae import load_vae

    config, records = context.config, {name: found.record for name, found in context.inputs.items()}
    text_encoder = load_text_encoder(config.text_encoder)
    vae = load_vae(context.input_path("vae") / "vae")
    generators = {
        name: load_generator(context.input_path(name), records[name].digest, vae, text_encoder, config.preferences.batch_size)
        for name in ("sft", "base")
        if name in context.inputs
    }
    settings = EvidenceRun(
        aes=config.aes,
        preferences=config.preferences,
        curated=context.input_path("curated"),
        scorer=load_scorer(context.input_path("aes")),
        baseline=baseline_of(context.input_path("aes")),
        aes_digest=records["aes"].digest,
        generator=generators["sft"],
        generator_digest=records["sft"].digest,
        early=generators.get("base"),
        seed=context.seed,
    )
    evidence = measure_evidence(settings, context.output)
    metrics = metrics_of(evidence)
    context.run.log_metrics(metrics, 0)
    context.run.set_tags({"annotations": evidence.origin, "aes_may_rank": str(evidence.may_rank).lower()})
    revision = register(context, evidence.overall.model) if os.environ.get("MLFLOW_TRACKING_URI") else ""
    counts = {"num_pictures": evidence.overall.model.num if evidence.overall.model else 0, "num_kinds": len(evidence.sources)}
    return Outcome(counts=counts, metrics=metrics, report=context.output / "report.html", revision=revision)


def register(context: JobContext, measured: object) -> str:
    """Registers the aesthetic model's payload as a version of `aes` with its agreement; returns `aes@N`."""
    from imagewright.evaluation.aes_agreement import Figure
    from imagewright.tracking.models import ModelOrigin, ModelRegistry
    from imagewright.tracking.scores import Score

    record = context.inputs["aes"].record
    scores = {}
    if isinstance(measured, Figure):
        low, high = min(measured.low, measured.srcc), max(measured.high, measured.srcc)
        scores["aesthetic/generator_srcc"] = Score(measured.srcc, low, high)
    origin = ModelOrigin(recipe=context.config.name, git_commit=record.git_commit, image=record.image_digest)
    return str(ModelRegistry(os.environ["MLFLOW_TRACKING_URI"]).register("aes", record.digest, origin, scores))
