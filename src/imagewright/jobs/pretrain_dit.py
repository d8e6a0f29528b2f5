"""Job `pretrain-dit`: encoded samples -> base weights and their moving average."""

from __future__ import annotations

from imagewright.jobs.job import Job, JobContext, Outcome

JOB = Job(
    name="pretrain-dit",
    stage="pretrain",
    kind="model",
    model="base",
    inputs=("latents",),
    optional_inputs=("vae",),
    sections=("model", "training", "pretrain"),
    distributed=True,
)


def run(context: JobContext) -> Outcome:
    """Trains the transformer through every stage, continuing where an earlier attempt was stopped."""
    from imagewright.methods.pretrain_process import start_pretraining
    from imagewright.methods.pretrain_run import Pretraining, run_pretraining
    from imagewright.training.archive import ArchivePlace
    from imagewright.training.world import open_world

    config = context.config
    settings = Pretraining(
        model=config.model,
        pretrain=config.pretrain,
        training=config.pretrain.training_of(config.training),
        latents=context.input_path("latents"),
        work=context.work,
        seed=context.seed,
        vae=context.optional_path("vae", "vae"),
        archive=ArchivePlace(context.store, context.archive) if context.archive else None,
    )
    world = open_world()
    if config.training.num_processes > 1 and world.size == 1:
        result, counts = start_pretraining(settings, context.output, context.run)
    else:
        result, counts = run_pretraining(settings, context.output, context.run, console=context.console, world=world)
    return Outcome(counts=counts, metrics={"train/final_loss": result.last_loss, **result.validation})
