"""Job `build-sft-data`: curated manifest and latents -> samples of the high-demand domains with diversified prompts."""

from __future__ import annotations

from imagewright.jobs.job import Job, JobContext, Outcome

JOB = Job(
    name="build-sft-data", stage="sft", kind="dataset", dataset="sft", inputs=("curated", "latents"), sections=("sft", "text_encoder")
)


def run(context: JobContext) -> Outcome:
    """Selects, diversifies and encodes; the card says what each rule left out."""
    from imagewright.curation.sft_data import build_sft_data
    from imagewright.models.text_encoder import load_text_encoder

    encoder = load_text_encoder(context.config.text_encoder)
    curated, latents = context.input_path("curated"), context.input_path("latents")
    counts = build_sft_data(context.config.sft, curated, latents, encoder.encode, context.output, context.seed)
    return Outcome(counts=counts)
