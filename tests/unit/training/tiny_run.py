"""The smallest real run: a two-layer network learns a fixed function of seeded samples. Shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imagewright.config.training import TrainingConfig
from imagewright.tracking.job_run import NullRun
from imagewright.training.archive import ArchivePlace
from imagewright.training.hooks import StepReport
from imagewright.training.method import PlainMethod, StepOutput
from imagewright.training.trainer import Trainer, TrainingPlan
from imagewright.training.world import World

CONFIG = TrainingConfig(checkpoint_every_steps=3, log_every_steps=1, keep_checkpoints=2, ema_decay=0.9, validate_every_steps=3)


@dataclass(frozen=True)
class TinyBatch:
    seeds: tuple[int, ...]

    @property
    def num_samples(self) -> int:
        return len(self.seeds)

    @property
    def num_tokens(self) -> int:
        return 4 * len(self.seeds)


class TinyLoader:
    """Samples 0, 1, 2, ... in steps of `samples`, cut into micro-batches and dealt to processes."""

    def __init__(self, samples: int = 8, cuts: tuple[int, ...] = (8,), world: World | None = None) -> None:
        assert sum(cuts) == samples
        self.samples, self.cuts, self.world, self.position = samples, cuts, world or World(), 0

    def next_step(self) -> list[TinyBatch]:
        seeds = list(range(self.position, self.position + self.samples))
        self.position += self.samples
        batches = []
        for size in self.cuts:
            batches.append(TinyBatch(tuple(seeds[:size])))
            seeds = seeds[size:]
        return batches[self.world.rank :: self.world.size]

    def state(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state(self, state: dict[str, int]) -> None:
        self.position = state["position"]


class TinyMethod(PlainMethod):
    """Regression with noise drawn from the global generator, so that a lost random state shows."""

    def __init__(self, fault: Callable[[TinyBatch], float] = lambda batch: 1.0, noise: float = 0.1) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 1))
        self.fault, self.noise = fault, noise

    def networks(self) -> dict[str, nn.Module]:
        return {"transformer": self.network}

    def per_sample(self, seeds: tuple[int, ...]) -> Tensor:
        x = torch.stack([torch.randn(4, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        noise = self.noise * torch.randn(len(seeds)) if self.noise else torch.zeros(len(seeds))
        return ((self.network(x)[:, 0] - x.sum(dim=1) + noise) ** 2).float()

    def train_step(self, batch: TinyBatch, step: int) -> StepOutput:
        loss = self.per_sample(batch.seeds).mean() * self.fault(batch)
        return StepOutput({"transformer": loss}, {"tiny/first_seed": float(batch.seeds[0])})

    def validate(self, step: int) -> dict[str, float]:
        x = torch.eye(4)
        return {"validation/loss": float(((self.network(x)[:, 0] - x.sum(dim=1)) ** 2).mean())}


class Recorder:
    """Hook and run that keep what they were told."""

    def __init__(self) -> None:
        self.reports: list[StepReport] = []
        self.events: list[tuple[str, str]] = []
        self.metrics: list[tuple[int, dict[str, Any]]] = []
        self.null = NullRun()

    def after_step(self, report: StepReport) -> None:
        self.reports.append(report)

    def log_metrics(self, metrics: Mapping[str, Any], step: int) -> None:
        self.null.log_metrics(metrics, step)
        self.metrics.append((step, dict(metrics)))

    def log_event(self, name: str, step: int, detail: str) -> None:
        self.null.log_event(name, step, detail)
        self.events.append((name, detail))

    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.null, name)


def build(
    folder: Path,
    *,
    steps: int = 9,
    method: TinyMethod | None = None,
    loader: TinyLoader | None = None,
    config: TrainingConfig = CONFIG,
    recorder: Recorder | None = None,
    world: World | None = None,
    kind: type[Trainer] = Trainer,
    archive: ArchivePlace | None = None,
    **fingerprint: Any,
) -> tuple[Trainer, Recorder]:
    """A trainer on the tiny problem and the recorder that watches it."""
    recorder = recorder or Recorder()
    plan = TrainingPlan(steps, {"transformer": lambda step: 0.01}, averaged=("transformer",), fingerprint=fingerprint)
    method, loader = method or TinyMethod(), loader or TinyLoader()
    return kind(method, loader, config, plan, folder, recorder, hooks=[recorder], world=world, archive=archive), recorder  # type: ignore[arg-type]


def weights(trainer: Trainer) -> dict[str, Tensor]:
    """Copies of everything that must agree between two equal runs."""
    state = {name: tensor.clone() for name, tensor in trainer.engines["transformer"].export_state().items()}
    return state | {f"ema.{name}": tensor.clone() for name, tensor in trainer.averages["transformer"].state_dict().items()}


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Bitwise equality of two states."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
