"""Job `pretrain-dit`: encoded samples -> base weights and their moving average."""

from __future__ import annotations

from imagewright.jobs.job import Job, JobContext, Outcome

JOB = Job(name="pretrain-dit", stage="pretrain", kind="model", inputs=("latents",), sections=("model", "training", "pretrain"))


def run(context: JobContext) -> Outcome:
    """Trains the transformer through every stage, continuing where an earlier attempt was stopped."""
    from imagewright.methods.pretrain_run import Pretraining, run_pretraining
    from imagewright.training.world import open_world

    config = context.config
    settings = Pretraining(config.model, config.pretrain, config.training, context.input_path("latents"), context.work, context.seed)
    result, counts = run_pretraining(settings, context.output, context.run, console=context.console, world=open_world())
    metrics = {"train/final_loss": result.last_loss, **result.validation}
    return Outcome(counts=counts, metrics=metrics)
