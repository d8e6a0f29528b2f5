"""Job `train-enhancer`: curated captions -> a language model that expands short prompts."""

from __future__ import annotations

from imagewright.jobs.job import Job, JobContext, Outcome

JOB = Job(name="train-enhancer", stage="enhancer", kind="model", inputs=("curated",), sections=("enhancer", "training"))


def run(context: JobContext) -> Outcome:
    """Degrades captions into prompts, fine-tunes, and compares with the untrained model on held-out prompts."""
    from imagewright.methods.enhancer_run import EnhancerRun, run_enhancer

    settings = EnhancerRun(
        config=context.config.enhancer,
        training=context.config.training,
        curated=context.input_path("curated"),
        work=context.work,
        seed=context.seed,
    )
    metrics, counts = run_enhancer(settings, context.output, context.run, context.console)
    return Outcome(metrics=metrics, counts=counts)
