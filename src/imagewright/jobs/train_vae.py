"""Job train-vae: curated images -> the autoencoder between pixels and latents."""

from __future__ import annotations

from imagewright.jobs.job import Job, JobContext, Outcome

JOB = Job(name="train-vae", stage="encode", inputs=("curated",), sections=("vae",), kind="model")


def run(context: JobContext) -> Outcome:
    """Trains (or takes) the autoencoder and writes `vae/` and `metrics.json`; fails below vae.min_judged_accuracy."""
    from imagewright.evaluation.vae_quality import make_vae

    return make_vae(context.config.vae, context.input_path("curated"), context.output, context.work, context.seed, context.run)
