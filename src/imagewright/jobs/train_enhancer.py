"""Job `train-enhancer`: curated captions -> a language model that expands short prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagewright.errors import InputError, Problem
from imagewright.jobs.job import Job, JobContext, Outcome

if TYPE_CHECKING:
    from imagewright.methods.enhancer_reward import Judge

JUDGES = ("model", "vae", "aes")
JOB = Job(
    name="train-enhancer",
    stage="enhancer",
    kind="model",
    model="enhancer",
    inputs=("curated",),
    optional_inputs=JUDGES,
    sections=("enhancer", "training", "text_encoder"),
)


def run(context: JobContext) -> Outcome:
    """Degrades captions into prompts, fine-tunes, and compares with the untrained model on held-out prompts.

    With `enhancer.policy.steps` the model then learns from rewards; given an image model and its VAE, those include its pictures.
    """
    from imagewright.methods.enhancer_run import EnhancerRun, run_enhancer
    from imagewright.training.archive import ArchivePlace

    steps, ignored = context.config.enhancer.policy.steps, [name for name in JUDGES if name in context.inputs]
    if ignored and not steps:
        text = f"{', '.join(ignored)}: not used, because enhancer.policy.steps is 0 and nothing is rewarded"
        context.console.print(text, markup=False, soft_wrap=True)
    settings = EnhancerRun(
        config=context.config.enhancer,
        training=context.config.training,
        curated=context.input_path("curated"),
        work=context.work,
        seed=context.seed,
        archive=ArchivePlace(context.store, context.archive) if context.archive else None,
        judge=judge_of(context) if steps and "model" in context.inputs else None,
    )
    metrics, counts = run_enhancer(settings, context.output, context.run, context.console)
    return Outcome(metrics=metrics, counts=counts)


def judge_of(context: JobContext) -> Judge:
    """A frozen image model whose pictures are graded, and scored where `aes` is given. Raises InputError without its VAE."""
    if "vae" not in context.inputs:
        raise InputError(Problem("vae", "is needed beside the input model", None, "give the VAE the model was trained with"))
    from imagewright.evaluation.generation import SamplerSettings, load_generator
    from imagewright.methods.enhancer_reward import picture_judge
    from imagewright.models.aesthetic import load_scorer
    from imagewright.models.text_encoder import load_text_encoder
    from imagewright.models.vae import load_vae

    policy = context.config.enhancer.policy
    digest = context.inputs["model"].record.digest
    vae, text_encoder = load_vae(context.input_path("vae") / "vae"), load_text_encoder(context.config.text_encoder)
    generator = load_generator(context.input_path("model"), digest, vae, text_encoder, policy.prompts_per_step * policy.group_size)
    scorer = load_scorer(context.input_path("aes")) if "aes" in context.inputs else None
    side = context.config.enhancer.pairs.sizes_px[0][0]
    return picture_judge(generator, SamplerSettings(policy.sampler_steps, 1.0, 4.0, side), scorer, context.seed)
