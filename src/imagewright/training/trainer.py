"""The training loop, shared by every method: batches in, guarded updates, checkpoints out.

A method says what a step computes, engines own precision and sharding, hooks watch; this file decides only their order.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imagewright.config.training import TrainingConfig
from imagewright.models.ema import ExponentialMovingAverage
from imagewright.tracking.job_run import JobRun
from imagewright.training.archive import ArchivePlace, CheckpointArchive
from imagewright.training.checkpoint import Checkpoint, CheckpointFolder, folder_name, rank_file
from imagewright.training.engine import Engine, build_engine, split_state
from imagewright.training.guard import Guard, TrainingDivergedError, Verdict
from imagewright.training.hooks import Hook, StepReport
from imagewright.training.host_memory import keep_freed_memory
from imagewright.training.interruption import StopRequest, TrainingInterrupted
from imagewright.training.method import BatchSource, Method
from imagewright.training.schedule import LearningRate
from imagewright.training.watchdog import Heartbeat, Watchdog
from imagewright.training.world import World

STOPPING_SECONDS = 60.0
"""Longest wait of an interrupted run for the copy of its last checkpoint."""
SAMPLES_FOLDER = "samples"
"""Folder of a run's pictures among its artifacts."""


@dataclass(frozen=True)
class TrainingPlan:
    """What one run does.

    learning_rates: by network. averaged: networks whose moving average is kept (where training.ema_decay is not 0).
    fingerprint: settings a checkpoint must agree with to be resumed (model, optimizer, data), plain values.
    """

    total_steps: int
    learning_rates: Mapping[str, LearningRate]
    seed: int = 0
    averaged: Sequence[str] = ()
    fingerprint: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FitResult:
    """How a run ended."""

    steps: int
    resumed_from: int
    skipped_updates: int
    rollbacks: int
    last_loss: float
    validation: Mapping[str, float]


class Trainer:
    """Trains a method to its last step, resuming from its own checkpoints."""

    def __init__(
        self,
        method: Method,
        loader: BatchSource,
        config: TrainingConfig,
        plan: TrainingPlan,
        folder: Path,
        run: JobRun,
        *,
        hooks: Sequence[Hook] = (),
        world: World | None = None,
        archive: ArchivePlace | None = None,
    ) -> None:
        """folder: scratch that survives the process; holds `checkpoints/` and `heartbeats/`. archive: where checkpoints are copied to."""
        self.method, self.loader, self.config, self.plan, self.run, self.hooks = method, loader, config, plan, run, hooks
        self.world = world or World()
        self.folder = folder
        if self.world.device.type == "cpu":
            keep_freed_memory()
        torch.manual_seed(plan.seed + self.world.rank)
        self.engines: dict[str, Engine] = {name: build_engine(module, config, self.world) for name, module in method.networks().items()}
        averaged = plan.averaged if config.ema_decay else ()
        self.averages = {name: ExponentialMovingAverage(self.engines[name].masters(), config.ema_decay) for name in averaged}
        self.guard = Guard(config)
        self.checkpoints = CheckpointFolder(
            folder / "checkpoints", plan.fingerprint, keep=config.keep_checkpoints, world=self.world, on_event=self.log_event
        )
        self.archive = CheckpointArchive(archive, folder / f"copies-{self.world.rank}", self.log_event) if archive else None
        self.heartbeat = Heartbeat(folder / "heartbeats", self.world.rank)
        self.step, self.resumed_from, self.skipped_updates = 0, 0, 0
        self.last_loss = float("nan")
        self.validation: dict[str, float] = {}

    def fit(self) -> FitResult:
        """Runs to the last step. Raises TrainingInterrupted after the save a signal asked for, TrainingDivergedError when it diverges."""
        with ExitStack() as stack:
            stop = stack.enter_context(StopRequest())
            stack.enter_context(Watchdog(self.folder / "heartbeats", self.config.watchdog_seconds))
            self.resume()
            while self.step < self.plan.total_steps:
                report, verdict, stopping = self.run_step(stop.requested)
                if verdict is Verdict.ROLL_BACK:
                    self.roll_back()
                    continue
                self.step += 1
                if self.is_due(self.config.validate_every_steps):
                    self.validate()
                if self.is_due(self.config.sample_grid.every_steps):
                    self.paint()
                # Before the save: a step that a checkpoint holds was seen by the hooks, one that is lost is seen again.
                for hook in self.hooks if self.world.is_first else ():
                    hook.after_step(report)
                if self.is_due(self.config.checkpoint_every_steps) or stopping:
                    self.save()
                if stopping and self.step < self.plan.total_steps:
                    if self.archive is not None:
                        self.archive.wait(STOPPING_SECONDS)  # the machine may be taken away next
                    raise TrainingInterrupted(self.step)
        return FitResult(self.step, self.resumed_from, self.skipped_updates, self.guard.rollbacks, self.last_loss, self.validation)

    def is_due(self, every: int) -> bool:
        """Whether something done every `every` steps is due now; the last step always is."""
        return self.step == self.plan.total_steps or (every > 0 and self.step % every == 0)

    def run_step(self, stop_requested: bool) -> tuple[StepReport, Verdict, bool]:
        """One optimizer step over all processes; also whether any process was asked to stop."""
        started = time.monotonic()
        self.heartbeat.beat(self.step, "data")
        batches = self.loader.next_step()
        counts = [sum(batch.num_samples for batch in batches), sum(batch.num_tokens for batch in batches), float(stop_requested)]
        num_samples, num_tokens, stopping = self.world.sum(counts)
        self.heartbeat.beat(self.step, "forward")
        losses, metrics, flops = self.accumulate(batches, max(num_samples, 1.0))
        rates = {name: self.plan.learning_rates[name](self.step) for name in losses}
        self.heartbeat.beat(self.step, "update")
        norms = {name: self.engines[name].gradient_norm() for name in losses}
        judged = {f"{name}/loss": value for name, value in losses.items()} | {f"{name}/grad_norm": value for name, value in norms.items()}
        verdict = self.guard.judge(judged)
        self.update(verdict, rates)
        self.last_loss = next(iter(losses.values()), self.last_loss)
        report = StepReport(
            step=self.step + 1,
            total_steps=self.plan.total_steps,
            losses=losses,
            grad_norms=norms,
            learning_rates=rates,
            metrics=metrics,
            num_samples=int(num_samples),
            num_tokens=int(num_tokens),
            flops=flops,
            seconds=time.monotonic() - started,
            applied=verdict is Verdict.APPLY,
        )
        return report, verdict, stopping > 0

    def accumulate(self, batches: Sequence[Any], num_samples: float) -> tuple[dict[str, float], dict[str, float], float]:
        """Forward and backward over this process's micro-batches. Returns losses and metrics over all processes, and FLOPs.

        Each micro-batch weighs its share of the step's samples, so the gradient is that of the mean over all samples however they
        are packed, accumulated or spread over processes.
        """
        sums: dict[str, Tensor | float] = {}
        networks: list[str] = []
        flops = 0.0
        for number, batch in enumerate(batches):
            with ExitStack() as stack:
                for engine in self.engines.values():
                    stack.enter_context(engine.precision())
                output = self.method.train_step(batch, self.step)
            share = batch.num_samples / num_samples
            for name, loss in output.losses.items():
                self.engines[name].backward(loss * share, last=number == len(batches) - 1)
                sums[f"loss {name}"] = sums.get(f"loss {name}", 0.0) + loss.detach().float() * share
            for name, value in output.metrics.items():
                plain = value.detach().float() if isinstance(value, Tensor) else value
                sums[f"metric {name}"] = sums.get(f"metric {name}", 0.0) + plain * share
            networks = list(output.losses)
            flops += self.method.step_flops(batch)
        names = sorted(sums)
        totals = dict(zip([*names, "flops"], self.world.sum([*(float(sums[name]) for name in names), flops]), strict=True))
        losses = {name: totals[f"loss {name}"] for name in networks}
        return losses, {name[7:]: totals[name] for name in names if name.startswith("metric ")}, totals["flops"]

    def update(self, verdict: Verdict, rates: Mapping[str, float]) -> None:
        """Applies the step's gradients, or drops them."""
        if verdict is Verdict.APPLY:
            for name, rate in rates.items():
                self.engines[name].step(rate)
                if name in self.averages:
                    self.averages[name].update(self.engines[name].masters())
            return
        self.skipped_updates += 1
        self.log_event("update_skipped" if verdict is Verdict.SKIP else "roll_back", self.guard.reason)
        for name in rates:
            self.engines[name].discard()

    def validate(self) -> None:
        """Validation metrics of the method, with the averaged weights where there are any."""
        with self.looking():
            self.validation = self.method.validate(self.step)
        if self.validation and self.world.is_first:
            self.run.log_metrics(self.validation, self.step)

    def paint(self) -> None:
        """Pictures of the method, with the averaged weights where there are any; a full disk costs the picture, not the run."""
        self.heartbeat.beat(self.step, "paint")
        try:
            with self.looking():
                picture = self.method.paint(self.step)
            if picture is not None and self.world.is_first:
                self.run.log_artifact(picture, SAMPLES_FOLDER)
        except OSError as error:
            self.log_event("sample_grid_failed", str(error))

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Networks as they are looked at: averaged weights, training's precision, no gradients."""
        with ExitStack() as stack:
            for name, average in self.averages.items():
                if self.config.engine == "torch":  # other engines keep shards: their forward weights cannot be swapped in place
                    stack.enter_context(average.applied(self.engines[name].masters()))
            for engine in self.engines.values():
                stack.enter_context(engine.precision())
            stack.enter_context(torch.no_grad())
            yield

    def save(self) -> bool:
        """Saves everything a resumed run needs; a failed save is an event, not the end of training."""
        self.heartbeat.beat(self.step, "save")
        tensors = {f"network-{name}": engine.export_state() for name, engine in self.engines.items()}
        tensors |= {f"ema-{name}": self.average_weights(name) for name in self.averages}
        tensors["method"] = self.method.state()
        state = {
            "step": self.step,
            "loader": self.loader.state(),
            "guard": self.guard.state(),
            "skipped_updates": self.skipped_updates,
            "last_loss": self.last_loss,
            "validation": self.validation,
            "ema_updates": {name: average.num_updates for name, average in self.averages.items()},
        }
        value = self.validation.get("validation/loss") if self.is_due(self.config.validate_every_steps) else None
        saved = self.checkpoints.save(self.step, {name: part for name, part in tensors.items() if part}, state, random_state(), value)
        if saved and self.archive is not None and self.world.is_first:
            self.archive.offer(self.step, self.checkpoints.folder / folder_name(self.step))
        return saved

    def resume(self) -> None:
        """Continues from the newest usable checkpoint, the store's copy of it where that is newer, if there is one."""
        self.fetch_copy()
        checkpoint = self.checkpoints.newest()
        if checkpoint is not None:
            self.restore(checkpoint)
            self.loader.load_state(checkpoint.state["loader"])
            self.guard.load_state(checkpoint.state["guard"])
            self.resumed_from = self.step
            self.log_event("resumed", f"from the checkpoint of step {self.step}")

    def fetch_copy(self) -> None:
        """Brings the store's copy where it is newer than every checkpoint of the folder, which all processes share: the first fetches."""
        if self.archive is not None:
            if self.world.is_first:
                self.archive.fetch(self.checkpoints.folder, max(self.checkpoints.steps(), default=-1))
            self.world.barrier()

    def restore(self, checkpoint: Checkpoint) -> None:
        """Weights, averages, optimizer and random state of a checkpoint; the position in the data is the caller's choice."""
        for name, engine in self.engines.items():
            if name in self.averages:
                average = self.averages[name]
                engine.import_weights(checkpoint.tensors(f"ema-{name}"))
                average.load_state_dict(dict(trained_parameters(engine)), checkpoint.state["ema_updates"][name])
            engine.import_state(checkpoint.tensors(f"network-{name}"))
        self.method.load_state(checkpoint.tensors("method"))
        load_random_state(checkpoint.tensors(rank_file(self.world.rank)), self.plan.seed + self.world.rank + checkpoint.step)
        self.step, self.skipped_updates = checkpoint.step, checkpoint.state["skipped_updates"]
        self.last_loss, self.validation = checkpoint.state["last_loss"], checkpoint.state["validation"]

    def roll_back(self) -> None:
        """Weights of the last checkpoint, data from here on: the samples that led astray are not seen again."""
        checkpoint = self.checkpoints.newest()
        if checkpoint is None:
            raise TrainingDivergedError(f"{self.guard.reason}, and there is no checkpoint to roll back to")
        self.restore(checkpoint)

    def average_weights(self, name: str) -> dict[str, Tensor]:
        """Trained weights of a network's moving average by parameter name, in the first process; all processes must call it."""
        engine = self.engines[name]
        with self.averages[name].applied(engine.masters()):
            exported = engine.export_state()
            # A copy: the parameters the export may share take their trained values back.
            return {key: value.clone() for key, value in split_state(exported).get("weight", {}).items()}

    def log_event(self, name: str, detail: str) -> None:
        """Records an event once."""
        if self.world.is_first:
            self.run.log_event(name, getattr(self, "step", 0), detail)


def trained_parameters(engine: Engine) -> list[tuple[str, Tensor]]:
    """Named master weights that are trained."""
    return [(name, parameter.data) for name, parameter in engine.masters().named_parameters() if parameter.requires_grad]


def random_state() -> dict[str, Tensor]:
    """State of torch's random generators in this process."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def load_random_state(state: Mapping[str, Tensor], seed: int) -> None:
    """Takes back a random state; a process that did not exist when it was saved starts from `seed`."""
    if "cpu" not in state:
        torch.manual_seed(seed)
        return
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
