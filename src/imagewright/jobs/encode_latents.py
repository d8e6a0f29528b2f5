"""Job encode-latents: curated images and captions -> latents and prompt embeddings."""

from __future__ import annotations

from imagewright.jobs.job import Job, JobContext, Outcome

JOB = Job(
    name="encode-latents",
    stage="encode",
    inputs=("curated", "vae"),
    sections=("latents", "text_encoder"),
    kind="dataset",
    dataset="latents",
)


def run(context: JobContext) -> Outcome:
    """Encodes every kept sample of the chosen splits at every stage resolution."""
    from imagewright.models.dataset_encoding import Encoders, encode_dataset
    from imagewright.models.text_encoder import load_text_encoder
    from imagewright.models.vae import load_vae

    encoders = Encoders(load_vae(context.input_path("vae") / "vae"), load_text_encoder(context.config.text_encoder))

    def progress(what: str, done: int, total: int) -> None:
        context.console.log(f"{what} {done}/{total}")
        context.run.log_metrics({f"data/{what}_encoded": done}, done)

    counts = encode_dataset(context.config.latents, context.input_path("curated"), encoders, context.output, context.work, progress)
    context.run.log_metrics({f"data/{name}": counts[name] for name in ("num_in", "num_kept", "num_dropped")}, 0)
    return Outcome(counts=counts)
