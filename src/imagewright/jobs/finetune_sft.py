"""Job `finetune-sft`: base weights and domain data -> SFT weights and one LoRA expert per domain."""

from __future__ import annotations

from pathlib import Path

from imagewright.errors import InputError, Problem
from imagewright.jobs.job import Job, JobContext, Outcome

JOB = Job(
    name="finetune-sft",
    stage="sft",
    kind="model",
    model="sft",
    inputs=("base", "sft_data"),
    optional_inputs=("vae",),
    sections=("sft", "training"),
    distributed=True,
)


def run(context: JobContext) -> Outcome:
    """Fine-tunes the model (whole, or by LoRA), averages earlier variants in where asked, then trains each expert.

    Says of every expert whether it beats the SFT model on its own domain.
    """
    from imagewright.methods.sft import SftRun, run_sft
    from imagewright.training.archive import ArchivePlace
    from imagewright.training.world import open_world

    world = open_world()
    merge = context.config.sft.merge if world.is_first else ()
    settings = SftRun(
        sft=context.config.sft,
        training=context.config.training,
        base=context.input_path("base"),
        base_digest=context.inputs["base"].record.digest,
        data=context.input_path("sft_data"),
        work=context.work,
        seed=context.seed,
        vae=context.optional_path("vae", "vae"),
        variants=tuple((fetch_variant(context, one.payload), one.weight) for one in merge),
        archive=ArchivePlace(context.store, context.archive) if context.archive else None,
    )
    metrics = run_sft(settings, context.output, context.run, context.console, world)
    return Outcome(metrics=metrics, counts={"experts": len(context.config.sft.domains)})


def fetch_variant(context: JobContext, digest: str) -> Path:
    """Payload folder of an earlier fine-tuning. Raises InputError when the store does not hold it whole."""
    folder = context.work / "variants" / digest
    if not folder.exists():
        if not context.store.exists(digest):
            raise InputError(Problem("sft.merge.payload", "is not complete in the store", digest, "name the payload of a fine-tuning"))
        context.store.get(digest, folder)
    return folder
