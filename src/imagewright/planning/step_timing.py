"""Times real training steps of small shapes on this machine: forward, backward and optimizer of the packed transformer."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch

from imagewright.config.model import ModelConfig
from imagewright.config.training import TrainingConfig
from imagewright.models.dit import ErnieImageDiT
from imagewright.models.packing import pack_samples
from imagewright.planning.calibration import StepShape
from imagewright.training.optimizer import build_optimizer

HEAD_DIM = 32
"""Head width of the timed shapes."""


def timed_model(hidden: int, layers: int) -> ModelConfig:
    """A transformer of this width and depth with the proportions of the released one. hidden: a multiple of 32."""
    return ModelConfig(
        hidden_size=hidden,
        num_layers=layers,
        num_attention_heads=hidden // HEAD_DIM,
        ffn_hidden_size=3 * hidden,
        in_channels=64,
        out_channels=64,
        text_in_dim=384,
        rope_axes_dim=(8, 12, 12),
    )


CALIBRATION_SHAPES = (
    StepShape(timed_model(192, 4), samples=8, image_tokens=64, text_tokens=16),
    StepShape(timed_model(384, 4), samples=4, image_tokens=256, text_tokens=32),
)
"""Two shapes, a narrow and a wide one: unequal in FLOP per element."""


def time_steps(shapes: Sequence[StepShape], rounds: int, precision: torch.dtype = torch.float32) -> list[float]:
    """Median seconds of one step of every shape over interleaved rounds; CPU seconds on the CPU, which other work disturbs less."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    steps = [training_step(shape, device, precision) for shape in shapes]
    for step in steps:
        step()
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds):
        for step, found in zip(steps, times, strict=True):
            started = now(device)
            step()
            found.append(now(device) - started)
    return [statistics.median(found) for found in times]


def now(device: torch.device) -> float:
    """Seconds on the device's own clock: its queue is waited for, or this process's CPU time."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def training_step(shape: StepShape, device: torch.device, precision: torch.dtype) -> Callable[[], None]:
    """One whole training step on random tokens."""
    generator = torch.Generator().manual_seed(0)
    model = ErnieImageDiT(shape.model).to(device)
    with torch.no_grad():
        for parameter in model.parameters():  # a fresh transformer outputs 0 and has no gradient in most weights
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator).to(device))
    side = round(shape.image_tokens**0.5)
    count = round(shape.samples)
    latents = [torch.randn(shape.model.in_channels, side, side, generator=generator) for _ in range(count)]
    texts = [torch.randn(shape.text_tokens, shape.model.text_in_dim, generator=generator) for _ in range(count)]
    pack = pack_samples(latents, texts, 1000 * torch.rand(count, generator=generator)).to(device)
    optimizer = build_optimizer(model, TrainingConfig())

    def step() -> None:
        with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
            loss = model(pack).float().square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
