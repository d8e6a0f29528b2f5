"""Job `build-preferences`: the SFT model's own samples of training prompts, and people's votes on them -> audited preference pairs."""

from __future__ import annotations

from imagewright.errors import InputError, Problem
from imagewright.jobs.champions import aes_champion
from imagewright.jobs.job import Job, JobContext, Outcome

JOB = Job(
    name="build-preferences",
    stage="preferences",
    kind="dataset",
    dataset="preferences",
    inputs=("sft", "vae", "curated"),
    optional_inputs=("aes", "aes_evidence", "votes"),
    implied=aes_champion(lambda config: config.preferences.aes_weight > 0),
    sections=("preferences", "text_encoder"),
)


def run(context: JobContext) -> Outcome:
    """Samples every prompt several times, ranks, pairs best with worst, and audits the set.

    `votes`: an export (`imagewright annotate export`) of the project that an earlier build wrote into `votes/`; what people say of a
    prompt's samples replaces what was measured. `aes`: the champion when none is given. Raises InputError when the aesthetic model has a
    weight and is missing, or may not rank these samples, and for votes on other samples.
    """
    config = context.config.preferences
    missing = [name for name in ("aes", "aes_evidence") if config.aes_weight > 0 and name not in context.inputs]
    if missing:
        fix = "give or promote an aesthetic model, give what evaluate-aesthetic says of it, or set the weight to 0"
        raise InputError(
            Problem("preferences.aes_weight", f"needs the inputs aes and aes_evidence; missing {missing}", config.aes_weight, fix)
        )
    from imagewright.evaluation.aes_agreement import read_evidence, require_right_to_rank
    from imagewright.evaluation.generation import load_generator
    from imagewright.methods.preference_sampling import GRID_NAME, sample_preferences
    from imagewright.models.aesthetic import load_scorer
    from imagewright.models.text_encoder import load_text_encoder
    from imagewright.models.vae import load_vae

    digest = context.inputs["sft"].record.digest
    if config.aes_weight > 0:
        evidence = read_evidence(context.input_path("aes_evidence"))
        require_right_to_rank(evidence, context.inputs["aes"].record.digest, digest)
    text_encoder = load_text_encoder(context.config.text_encoder)
    vae = load_vae(context.input_path("vae") / "vae")
    generator = load_generator(context.input_path("sft"), digest, vae, text_encoder, config.batch_size)
    scorer = load_scorer(context.input_path("aes")) if config.aes_weight > 0 else None
    votes = context.input_path("votes") if "votes" in context.inputs else None
    built = sample_preferences(
        config, generator, context.input_path("curated"), context.output, context.seed, sampled_from=digest, scorer=scorer, votes=votes
    )
    context.run.log_metrics(built.metrics(), 0)
    if (context.output / GRID_NAME).exists():
        context.run.log_artifact(context.output / GRID_NAME, "grids")
    return Outcome(counts=built.counts(), metrics=built.metrics())
