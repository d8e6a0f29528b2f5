"""Does `kill -9` at any moment lose or change anything, and is every flipped bit of a checkpoint found?

Trains a tiny DiT on packs in forked processes and kills them at random moments, a third of them while a checkpoint is being written. After
every kill the run is started again; in the end its loss curve, its samples and its weights are compared bit by bit with an undisturbed run.
Synthetic data; the code paths are those of `pretrain-dit`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from imagewright.config.batching import BatchingConfig
from imagewright.config.model import ModelConfig
from imagewright.config.pretrain import PretrainConfig, PretrainStage
from imagewright.config.training import TrainingConfig
from imagewright.data.latents import EncodedCaption, LatentsContract, LatentsDataset, LatentsWriter
from imagewright.methods.pretrain_run import Pretraining, build_trainer, export
from imagewright.tracking.job_run import NullRun
from imagewright.training.checkpoint import CheckpointError, CheckpointFolder, read_checkpoint
from imagewright.training.hooks import StepReport
from imagewright.training.trainer import Trainer
from imagewright.training.world import World

MODEL = ModelConfig(
    hidden_size=64,
    num_layers=2,
    num_attention_heads=2,
    ffn_hidden_size=128,
    in_channels=8,
    out_channels=8,
    text_in_dim=16,
    rope_axes_dim=(8, 12, 12),
)
PATIENCE_SECONDS = 300.0


@dataclass
class Outcome:
    """What was counted."""

    kills: int = 0
    inside_save: int = 0
    resumes: int = 0
    lineages: int = 0
    equal_curves: int = 0
    equal_weights: int = 0
    lost: int = 0
    repeated: int = 0
    steps: int = 0


def write_latents(folder: Path) -> None:
    """Seeded latents of several aspects with captions of 1 to 12 tokens."""
    contract = LatentsContract(stride=16, channels=8, text_dim=16, max_tokens=16)
    with LatentsWriter(folder, contract, torch.zeros(1, 16)) as writer:
        for index in range(400):
            generator = torch.Generator().manual_seed(index)
            words = torch.randn(1 + index % 12, 16, generator=generator)
            height, width = [(4, 4), (2, 8), (8, 2), (4, 6)][index % 4]
            writer.add(
                f"k{index}", torch.randn(8, height, width, generator=generator), [EncodedCaption("long", words)], category=f"c{index % 5}"
            )


def settings(folder: Path, work: Path, steps: int) -> Pretraining:
    """A run of two stages with a checkpoint every five steps."""
    batching = BatchingConfig(pack_tokens=256, packs_per_step=2, lookahead=64)
    stages = (
        PretrainStage(steps=steps // 2, learning_rate=3e-3, warmup_steps=10, batching=batching),
        PretrainStage(steps=steps - steps // 2, learning_rate=1e-3, decay="cosine", batching=batching),
    )
    training = TrainingConfig(checkpoint_every_steps=5, validate_every_steps=0, ema_decay=0.99)
    return Pretraining(MODEL, PretrainConfig(stages=stages, validation_samples=0), training, folder / "latents", work, seed=1)


class Journal:
    """Appends every step's exact loss and samples to a file, and tells the parent when a save begins."""

    def __init__(self, path: Path, pipe: int) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.pipe = pipe
        self.samples: list[int] = []

    def watch(self, trainer: Trainer) -> None:
        """Wraps the two calls of interest; what they do is unchanged."""
        next_step, save = trainer.loader.next_step, trainer.save

        def noted_step() -> list[object]:
            batches = next_step()
            self.samples = [seed for batch in batches for seed in batch.noise_seeds]
            return batches

        def noted_save() -> bool:
            os.write(self.pipe, b"s")
            return save()

        trainer.loader.next_step = noted_step  # type: ignore[method-assign]
        trainer.save = noted_save  # type: ignore[method-assign]

    def after_step(self, report: StepReport) -> None:
        """One line per step, written in one call so that a kill cannot tear it."""
        line = json.dumps([report.step, report.loss.hex(), self.samples]) + "\n"
        os.write(self.file, line.encode())


def child(folder: Path, work: Path, steps: int, pipe: int) -> None:
    """Trains to the end unless it is killed."""
    torch.set_num_threads(1)
    journal = Journal(work / "journal.jsonl", pipe)
    run = settings(folder, work, steps)
    dataset = LatentsDataset(run.latents)
    trainer, _ = build_trainer(run, dataset, NullRun(), World(), (journal,))
    journal.watch(trainer)
    result = trainer.fit()
    export(trainer, run, dataset, work / "model", World())
    (work / "done.json").write_text(json.dumps({"resumed_from": result.resumed_from}))


def start(folder: Path, work: Path, steps: int) -> tuple[int, int]:
    """Forks a training process; returns its id and the pipe it reports saves on."""
    work.mkdir(parents=True, exist_ok=True)
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        code = 1
        try:
            child(folder, work, steps, writing)
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    os.close(writing)
    os.set_blocking(reading, False)
    return process, reading


def wait_for(process: int, pipe: int, work: Path, left_over: set[Path], seconds: float, saves: int, jitter: float) -> bool:
    """Waits for `seconds`, or until save number `saves` has begun to write and `jitter` seconds more; True when the process has ended."""
    deadline, seen = time.monotonic() + (seconds if not saves else PATIENCE_SECONDS), 0
    while time.monotonic() < deadline:
        if os.waitpid(process, os.WNOHANG)[0]:
            return True
        if saves:
            with contextlib.suppress(BlockingIOError):
                seen += len(os.read(pipe, 64))
            if seen >= saves and set((work / "checkpoints").glob("*.partial")) - left_over:
                time.sleep(jitter)
                return bool(os.waitpid(process, os.WNOHANG)[0])
        time.sleep(0.0005)
    return False


def read_journal(path: Path) -> dict[int, tuple[str, tuple[int, ...]]]:
    """Step -> (exact loss, samples). A step that was run twice must have been the same both times."""
    found: dict[int, tuple[str, tuple[int, ...]]] = {}
    for line in path.read_text().splitlines():
        step, loss, samples = json.loads(line)
        entry = (loss, tuple(samples))
        assert found.setdefault(step, entry) == entry, f"step {step} differed when it was run again"
    return found


def compare(outcome: Outcome, work: Path, reference: Path) -> None:
    """Counts what a killed lineage did differently from the undisturbed run."""
    mine, whole = read_journal(work / "journal.jsonl"), read_journal(reference / "journal.jsonl")
    outcome.equal_curves += [mine[step][0] for step in sorted(mine)] == [whole[step][0] for step in sorted(whole)]
    my_samples = [seed for step in sorted(mine) for seed in mine[step][1]]
    all_samples = [seed for step in sorted(whole) for seed in whole[step][1]]
    outcome.lost += len(set(all_samples) - set(my_samples))
    outcome.repeated += len(my_samples) - len(set(my_samples))
    files = ("transformer/diffusion_pytorch_model.safetensors", "ema/diffusion_pytorch_model.safetensors")
    outcome.equal_weights += all((work / "model" / file).read_bytes() == (reference / "model" / file).read_bytes() for file in files)
    outcome.steps += len(mine)


def kill_matrix(folder: Path, kills: int, steps: int, seed: int) -> Outcome:
    """Kills, restarts and compares until `kills` kills have been survived and the last lineage has finished."""
    draw = random.Random(seed)
    outcome = Outcome()
    reference = folder / "reference"
    process, pipe = start(folder, reference, steps)
    assert wait_for(process, pipe, reference, set(), PATIENCE_SECONDS, 0, 0.0), "the undisturbed run did not finish"
    os.close(pipe)
    while outcome.kills < kills:
        work = folder / f"lineage-{outcome.lineages}"
        while not (work / "done.json").exists():
            left_over = set((work / "checkpoints").glob("*.partial"))
            process, pipe = start(folder, work, steps)
            kill = outcome.kills < kills
            in_save = kill and outcome.kills % 3 == 0
            seconds, saves = draw.uniform(0.05, 1.5) if kill else PATIENCE_SECONDS, draw.randint(1, 4) if in_save else 0
            ended = wait_for(process, pipe, work, left_over, seconds, saves, draw.uniform(0.0, 0.006))
            if not ended:
                assert kill, "the last run did not finish"
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                outcome.kills += 1
                outcome.inside_save += bool(set((work / "checkpoints").glob("*.partial")) - left_over)
                checkpoint = CheckpointFolder(work / "checkpoints", fingerprint_of(work), on_event=lambda name, detail: None)
                outcome.resumes += resumable(checkpoint)
            os.close(pipe)
        outcome.lineages += 1
        compare(outcome, work, reference)
    return outcome


def fingerprint_of(work: Path) -> dict[str, object]:
    """The fingerprint the newest checkpoint carries; empty before the first."""
    states = sorted((work / "checkpoints").glob("step-????????/state.json"))
    return dict(json.loads(states[-1].read_text())["fingerprint"]) if states else {}


def resumable(checkpoints: CheckpointFolder) -> bool:
    """Whether a restart finds a whole checkpoint, or none was ever committed."""
    try:
        return checkpoints.newest() is not None or not checkpoints.steps()
    except CheckpointError:
        return False


def flip_bits(folder: Path, flips: int, seed: int) -> tuple[int, int]:
    """Flips single bits over all files of a checkpoint, every file included; returns (found, tried)."""
    path = sorted((folder / "reference" / "checkpoints").glob("step-????????"))[-1]
    files = sorted(path.iterdir())
    draw = random.Random(seed)
    found = 0
    for number in range(flips):
        file = files[number % len(files)] if number < 10 * len(files) else draw.choices(files, [f.stat().st_size for f in files])[0]
        bit = draw.randrange(file.stat().st_size * 8)
        flip(file, bit)
        try:
            read_checkpoint(path)
        except CheckpointError:
            found += 1
        flip(file, bit)
    read_checkpoint(path)
    return found, flips


def flip(path: Path, bit: int) -> None:
    """Inverts one bit in place."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        value = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([value ^ 1 << bit % 8]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=None, help="also write the counts here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_latents(folder / "latents")
        outcome = kill_matrix(folder, arguments.kills, arguments.steps, arguments.seed)
        found, tried = flip_bits(folder, arguments.flips, arguments.seed)
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, one thread, seed {arguments.seed}")
    print(f"kill -9: {outcome.kills} ({outcome.inside_save} while a checkpoint was being written)")
    print(f"resumed: {outcome.resumes}/{outcome.kills}")
    print(f"lineages finished: {outcome.lineages} of {arguments.steps} steps each")
    print(f"loss curve bitwise equal to the undisturbed run: {outcome.equal_curves}/{outcome.lineages}")
    print(f"weights and average bitwise equal: {outcome.equal_weights}/{outcome.lineages}")
    print(f"samples lost: {outcome.lost}, repeated: {outcome.repeated}")
    print(f"single-bit flips detected: {found}/{tried}")
    print(f"took {time.monotonic() - started:.0f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps({**vars(outcome), "flips_found": found, "flips_tried": tried}))


if __name__ == "__main__":
    main()
