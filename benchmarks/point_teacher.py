"""Flow matching on a mixture of Gaussians in the plane: the small problem on which losses of distillation are compared."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from imagewright.diffusion.flow_matching import add_noise, euler_step, recover_x0, velocity_target
from imagewright.diffusion.guidance import guide
from imagewright.evaluation.latent_health import energy_distance
from imagewright.losses.velocity import velocity_loss
from imagewright.models.packing import Pack, pack_samples

LABELS, NO_LABEL = 2, 2
WEIGHTS = torch.tensor([0.4, 0.3, 0.2, 0.1])
"""Shares of a label's four Gaussians."""
START = 0.999
"""Noise level of a student's only step: the highest one of FastGen's rectified-flow schedule."""
COUNT = 1024
"""Samples of a label when a student is measured."""
LOW, HIGH = 0.02, 0.98
"""Renoise levels, uniform: the defaults of `distill.matching.dm_low` and `dm_high`."""


class PointVelocity(nn.Module):
    """Velocity [B, 2, 1, 1] of points at noise levels [B] with labels [B]."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.label = nn.Embedding(LABELS + 1, 8)
        self.body = nn.Sequential(nn.Linear(19, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2))

    def forward(self, x: Tensor, level: Tensor, label: Tensor) -> Tensor:
        phase = level[:, None] * torch.pi * torch.tensor([1.0, 2.0, 4.0, 8.0])
        features = torch.cat([x.flatten(1), level[:, None], phase.sin(), phase.cos(), self.label(label)], dim=1)
        return self.body(features)[:, :, None, None]


@dataclass(frozen=True)
class Networks:
    """Weights that every arm starts from."""

    student: PointVelocity
    critic: PointVelocity
    teacher: PointVelocity


@dataclass(frozen=True)
class Draw:
    """Random numbers of one update. start: input of the student [B, 2, 1, 1], with labels [B]; level [B], noise [B, 2, 1, 1]: renoising;
    ca_level, ca_noise: a renoising of its own for guidance augmentation, below the student's step."""

    start: Tensor
    label: Tensor
    level: Tensor
    noise: Tensor
    ca_level: Tensor
    ca_noise: Tensor


def draws(seed: int, count: int) -> Iterator[Draw]:
    """Random numbers of one update after the other, `count` points each."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        start, noise, ca_noise = torch.randn(3, count, 2, 1, 1, generator=generator)
        level, ca_level = torch.rand(2, count, generator=generator)
        label = torch.randint(LABELS, (count,), generator=generator)
        yield Draw(START * start, label, LOW + (HIGH - LOW) * level, noise, LOW + (START - LOW) * ca_level, ca_noise)


def spread(level: Tensor) -> Tensor:
    """[B] -> [B, 1, 1, 1]."""
    return level[:, None, None, None]


def clean_of(network: nn.Module, x: Tensor, level: Tensor, label: Tensor) -> Tensor:
    """Clean prediction [B, 2, 1, 1] of a velocity network."""
    return recover_x0(x, network(x, level, label), spread(level))


def one_token_pack(count: int) -> Pack:
    """The pack of `count` points as latents [2, 1, 1]."""
    return pack_samples([torch.zeros(2, 1, 1)] * count, [torch.zeros(1, 1)] * count, torch.zeros(count))


def points(label: int, count: int, generator: torch.Generator) -> Tensor:
    """Points [n, 2] of a label: every second of eight Gaussians on a ring."""
    angle = (2 * torch.multinomial(WEIGHTS, count, replacement=True, generator=generator) + label) * torch.pi / 4
    return 1.5 * torch.stack([angle.cos(), angle.sin()], dim=1) + 0.15 * torch.randn(count, 2, generator=generator)


def make_teacher(seed: int, steps: int, per_label: int = 256) -> PointVelocity:
    """Trained with the label left out of every fifth point."""
    torch.manual_seed(seed)
    teacher, generator, count = PointVelocity(), torch.Generator().manual_seed(seed), LABELS * per_label
    optimizer = torch.optim.Adam(teacher.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    labels, pack = torch.arange(LABELS).repeat_interleave(per_label), one_token_pack(count)
    for _ in range(steps):
        clean = torch.cat([points(label, per_label, generator) for label in range(LABELS)])[:, :, None, None]
        label = torch.where(torch.rand(count, generator=generator) < 0.2, NO_LABEL, labels)
        level, noise = torch.rand(count, generator=generator), torch.randn(clean.shape, generator=generator)
        velocity = teacher(add_noise(clean, noise, spread(level)), level, label)
        loss = velocity_loss(velocity.flatten(1), velocity_target(clean, noise).flatten(1), pack).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return teacher.requires_grad_(False)


@torch.no_grad()
def teacher_samples(teacher: PointVelocity, label: int, guidance: float, count: int, seed: int, steps: int = 50) -> Tensor:
    """Euler samples [n, 2] of the guided teacher."""
    x = torch.randn(count, 2, 1, 1, generator=torch.Generator().manual_seed(seed))
    labels = torch.full((count,), label)
    for level, following in pairwise(torch.linspace(1, 0, steps + 1)):
        at = level.expand(count)
        velocity = guide(teacher(x, at, labels), teacher(x, at, torch.full_like(labels, NO_LABEL)), guidance)
        x = euler_step(x, velocity, level, following)
    return x.flatten(1)


@torch.no_grad()
def student_samples(student: PointVelocity, label: int, count: int, seed: int) -> Tensor:
    """Points [n, 2] in one step."""
    x = START * torch.randn(count, 2, 1, 1, generator=torch.Generator().manual_seed(seed))
    return clean_of(student, x, torch.full((count,), START), torch.full((count,), label)).flatten(1)


def distances(samples: Callable[[int], Tensor], teacher: PointVelocity, guidance: float, seed: int) -> tuple[float, float]:
    """Energy distance of samples(label) to data and to the teacher's samples, mean of the labels."""
    generator = torch.Generator().manual_seed(10_000 + seed)
    found = [
        (
            energy_distance(samples(label), points(label, COUNT, generator)),
            # Noise of its own: with shared noise a student could be near point by point, and not only in distribution.
            energy_distance(samples(label), teacher_samples(teacher, label, guidance, COUNT, 20_000 + seed)),
        )
        for label in range(LABELS)
    ]
    to_data, to_teacher = (statistics.mean(column) for column in zip(*found, strict=True))
    return to_data, to_teacher
