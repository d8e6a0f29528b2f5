"""Job `export-bundle`: trained weights, VAE and text encoder -> a servable diffusers folder."""

from __future__ import annotations

from imagewright.jobs.job import Job, JobContext, Outcome

JOB = Job(
    name="export-bundle",
    stage="serve",
    kind="model",
    inputs=("model", "vae"),
    optional_inputs=("enhancer",),
    sections=("serving", "text_encoder"),
)


def run(context: JobContext) -> Outcome:
    """Bundles the moving average where the method kept one, else the weights themselves."""
    from imagewright.serving.bundle import export_bundle
    from imagewright.serving.golden import write_golden

    model, vae = context.input_path("model"), context.input_path("vae")
    weights = model / "ema" if (model / "ema").is_dir() else model / "transformer"
    enhancer = context.inputs["enhancer"].path if "enhancer" in context.inputs else None
    export_bundle(weights, vae / "vae", context.config.text_encoder, context.config.serving, context.output, enhancer)
    write_golden(context.output)
    files = [path for path in context.output.rglob("*") if path.is_file()]
    return Outcome(counts={"files": len(files), "bytes": sum(path.stat().st_size for path in files)})
