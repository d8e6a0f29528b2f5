"""What pretraining a recipe takes: parameters, FLOPs, memory, days, cost - from formulas, each printed beside its number.

Without a calibration the share of the peak that is reached (`mfu`) is an assumption of the caller; with one, time follows from measured
steps of this kind of device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from imagewright.config.model import ModelConfig
from imagewright.config.pretrain import PretrainConfig, PretrainStage
from imagewright.config.training import TrainingConfig
from imagewright.errors import InputError, Problem
from imagewright.planning.calibration import FORMULA, Calibration, StepShape
from imagewright.planning.flops import TRAINING_FACTOR, block_parameters, forward_flops, num_parameters

STRIDE_PX = 16
SECONDS_PER_DAY = 86400.0
GIB = 2.0**30
MOMENT_BYTES = {"adamw": 8.0, "adamw_8bit": 2.0 + 8.0 / 256, "adafactor": 0.0, "muon": 8.0}
"""Bytes of optimizer state per weight of a large matrix; a block of 256 weights has two fp32 scales in 8 bits."""
MOMENTUM_BYTES = 4.0
"""Bytes per weight of a matrix that Muon updates."""


class PlanError(InputError):
    """A plan that cannot run."""


@dataclass(frozen=True)
class Gpu:
    """Peak dense bf16 TFLOP/s and memory of one accelerator, from the vendor's data sheet."""

    tflops: float
    memory_gib: float


GPUS = {"a100": Gpu(312.0, 80.0), "h100": Gpu(989.0, 80.0), "h200": Gpu(989.0, 141.0)}


@dataclass(frozen=True)
class Line:
    """One number of a plan and the formula it comes from."""

    name: str
    value: str
    formula: str


def plan_pretraining(
    model: ModelConfig,
    pretrain: PretrainConfig,
    training: TrainingConfig,
    *,
    gpu: str,
    num_gpus: int,
    mfu: float = 0.4,
    text_tokens: int = 256,
    price_per_gpu_hour: float = 0.0,
    calibration: Calibration | None = None,
) -> list[Line]:
    """The plan as lines. Raises PlanError with every reason why it cannot run: unknown GPU, packs that do not divide, too little memory."""
    check_request(pretrain, gpu, num_gpus, mfu)
    parameters = num_parameters(model)
    lines = [
        Line("parameters", f"{parameters:,}", "blocks L (4 h^2 + 3 h f) + norms + shared modulation 6 h^2 + embedders and output"),
        Line("checkpoint", f"{checkpoint_bytes(model, training) / GIB:,.1f} GiB", "4 bytes x parameters of weights, moments, average"),
    ]
    seconds, total_flops = 0.0, 0.0
    for number, stage in enumerate(pretrain.stages):
        per_image = image_flops(model, stage, training, text_tokens)
        samples = samples_per_step(stage, text_tokens)
        flops = per_image * samples * stage.steps
        stage_seconds = flops / (num_gpus * GPUS[gpu].tflops * 1e12 * mfu)
        days_formula = f"{flops:.3g} FLOP / ({num_gpus} x {GPUS[gpu].tflops:g} T x {mfu:g})"
        if calibration is not None:
            stage_seconds = calibrated_seconds(calibration, model, stage, training, text_tokens) / num_gpus
            days_formula = f"({FORMULA}) x {stage.steps} steps / {num_gpus} GPUs"
        seconds, total_flops = seconds + stage_seconds, total_flops + flops
        name = f"stage {number} ({stage.resolution} px)"
        lines += [
            Line(
                f"{name}: FLOPs per image",
                f"{per_image / 1e12:,.1f} T",
                f"{passes(training):g} x forward (3 = forward + backward, 4 = + recomputation)",
            ),
            Line(f"{name}: images per step", f"{samples:,.0f}", images_formula(stage)),
            Line(f"{name}: days", f"{stage_seconds / SECONDS_PER_DAY:,.2f}", days_formula),
        ]
    lines += memory_lines(model, pretrain, training, gpu, num_gpus)
    basis = f"calibrated on {calibration.device or 'two shapes'}" if calibration is not None else f"MFU {mfu:g} assumed"
    hours = seconds / 3600 * num_gpus
    lines.append(Line("days", f"{seconds / SECONDS_PER_DAY:,.1f}", f"{total_flops:.3g} FLOP in all, {basis}"))
    lines.append(Line("GPU hours", f"{hours:,.0f}", "days x 24 x GPUs"))
    if price_per_gpu_hour:
        lines.append(Line("cost", f"{hours * price_per_gpu_hour:,.0f}", f"GPU hours x {price_per_gpu_hour:g}"))
    return lines


def images_formula(stage: PretrainStage) -> str:
    """Where the images of a step come from."""
    return f"packs {stage.batching.packs_per_step} x {stage.batching.pack_tokens} tokens / sample"


def calibrated_seconds(
    calibration: Calibration, model: ModelConfig, stage: PretrainStage, training: TrainingConfig, text_tokens: int
) -> float:
    """Seconds of a stage on one calibrated device; recomputation repeats the forward pass, arithmetic and memory traffic alike."""
    step = StepShape(model, samples_per_step(stage, text_tokens), image_tokens(stage), text_tokens)
    return calibration.seconds(step) * passes(training) / TRAINING_FACTOR * stage.steps


def check_request(pretrain: PretrainConfig, gpu: str, num_gpus: int, mfu: float) -> None:
    """Raises PlanError with everything wrong with a request, before any number is computed."""
    problems = []
    if gpu not in GPUS:
        problems.append(Problem("--gpu", "must be a known accelerator", gpu, f"one of {', '.join(GPUS)}"))
    if num_gpus < 1:
        problems.append(Problem("--gpus", "must be at least 1", num_gpus))
    if not 0.0 < mfu <= 1.0:
        problems.append(Problem("--mfu", "must lie in (0, 1]", mfu))
    for number, stage in enumerate(pretrain.stages):
        if num_gpus >= 1 and stage.batching.packs_per_step % num_gpus:
            rule = f"must be a multiple of {num_gpus} GPUs"
            fix = "change the recipe or the number of GPUs"
            problems.append(Problem(f"pretrain.stages.{number}.batching.packs_per_step", rule, stage.batching.packs_per_step, fix))
    if problems:
        raise PlanError(problems)


def passes(training: TrainingConfig) -> float:
    """Forward passes that one training pass costs: full recomputation adds one, every second block half of one."""
    return TRAINING_FACTOR + {"none": 0.0, "selective": 0.5, "full": 1.0}[training.activation_checkpointing]


def image_tokens(stage: PretrainStage) -> int:
    """Tokens of an image of the stage's area; stages without a resolution are taken at 256 px."""
    return ((stage.resolution or 256) // STRIDE_PX) ** 2


def image_flops(model: ModelConfig, stage: PretrainStage, training: TrainingConfig, text_tokens: int) -> float:
    """FLOPs of training on one image once."""
    return passes(training) * forward_flops(model, image_tokens(stage), text_tokens)


def samples_per_step(stage: PretrainStage, text_tokens: int) -> float:
    """Images of one optimizer step."""
    return stage.batching.packs_per_step * stage.batching.pack_tokens / (image_tokens(stage) + text_tokens)


def state_bytes(model: ModelConfig, training: TrainingConfig, num_gpus: int) -> float:
    """Weights, gradients, fp32 master weights, moments and average per GPU, [bytes].

    Per parameter: weights 2 in bf16 or 4, gradients 4, masters 4 in bf16, moments 8 (AdamW), average 4. ZeRO-1 shards masters, moments
    and average, ZeRO-2 gradients too, ZeRO-3 weights too; the torch engine keeps one fp32 copy of the weights and shards nothing.
    Source: Rajbhandari et al. 1910.02054, section 5.
    """
    average = 4.0 if training.ema_decay else 0.0
    if training.engine == "torch":
        return num_parameters(model) * (4.0 + 4.0 + average) + moment_bytes(model, training)
    weights, sharded = (2.0, 12.0 + average) if training.precision == "bfloat16" else (4.0, 12.0 + average)
    sharded = average if training.offload else sharded
    gradients = 4.0
    stage = training.zero_stage
    whole = (weights if stage < 3 else 0.0) + (gradients if stage < 2 else 0.0)
    shared = sharded + (gradients if stage >= 2 else 0.0) + (weights if stage == 3 else 0.0)
    return num_parameters(model) * (whole + shared / num_gpus)


def moment_bytes(model: ModelConfig, training: TrainingConfig) -> float:
    """Optimizer state of the whole model, [bytes]; Muon keeps one momentum for block matrices, AdamW's two moments elsewhere."""
    state = num_parameters(model) * MOMENT_BYTES[training.optimizer]
    if training.optimizer == "muon":
        state -= model.num_layers * block_parameters(model) * (MOMENT_BYTES["muon"] - MOMENTUM_BYTES)
    return state


def checkpoint_bytes(model: ModelConfig, training: TrainingConfig) -> float:
    """fp32 weights, optimizer state and, where one is kept, the average, [bytes]."""
    return num_parameters(model) * (8.0 if training.ema_decay else 4.0) + moment_bytes(model, training)


def activation_bytes(model: ModelConfig, training: TrainingConfig, tokens: int) -> float:
    """Activations of one pack of `tokens` tokens, [bytes]: modulation rows in fp32, block inputs, and the blocks kept or recomputed."""
    width = 2.0 if training.precision == "bfloat16" else 4.0
    block = width * tokens * (10.0 * model.hidden_size + 3.0 * model.ffn_hidden_size)
    modulation = 4.0 * tokens * 6.0 * model.hidden_size
    layers = model.num_layers
    kept = {"none": layers, "selective": math.ceil(layers / 2) + 1, "full": 1}[training.activation_checkpointing]
    return modulation + layers * width * tokens * model.hidden_size + kept * block


def memory_lines(model: ModelConfig, pretrain: PretrainConfig, training: TrainingConfig, gpu: str, num_gpus: int) -> list[Line]:
    """Memory per GPU; raises PlanError when it exceeds what the GPU has."""
    tokens = max(stage.batching.pack_tokens for stage in pretrain.stages)
    state = state_bytes(model, training, num_gpus) / GIB
    activations = activation_bytes(model, training, tokens) / GIB
    if state + activations > GPUS[gpu].memory_gib:
        rule = f"needs {state:.1f} GiB of state and {activations:.1f} GiB of activations on a GPU of {GPUS[gpu].memory_gib:g} GiB"
        fix = "raise training.zero_stage or the number of GPUs, set training.offload, or lower batching.pack_tokens"
        raise PlanError(Problem("plan.memory", rule, f"{num_gpus} x {gpu}, {describe(training)}", fix))
    return [
        Line("memory per GPU: state", f"{state:.1f} GiB", f"{describe(training)}: weights, gradients, masters, moments, average"),
        Line(
            "memory per GPU: activations",
            f"{activations:.1f} GiB",
            f"one pack of {tokens} tokens, checkpointing {training.activation_checkpointing}",
        ),
    ]


def describe(training: TrainingConfig) -> str:
    """The engine in two words."""
    return "torch engine" if training.engine == "torch" else f"ZeRO-{training.zero_stage}{' with offload' if training.offload else ''}"
