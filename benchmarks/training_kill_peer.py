"""What does `kill -9` do to a plain diffusers and accelerate loop? The peer of training_kill.py.

The loop is that of diffusers' training examples: `save_state` into `checkpoint-<step>`, the oldest removed first so that two are kept,
`load_state` of the newest, `skip_first_batches`. Its model has the same shape, its steps hold the same samples in the same order, and the
kills come from the same seed: at random moments, a third of them inside a save. Where the newest checkpoint does not load, a person's
repair is done (it is deleted) and counted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import accelerate
import diffusers
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import ErnieImageTransformer2DModel
from diffusers.optimization import get_scheduler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from training_kill import MODEL, PATIENCE_SECONDS, write_latents

from imagewright.config.batching import BatchingConfig
from imagewright.data.latents import EncodedSample, LatentsDataset
from imagewright.data.packed_loader import PackedLoader

SAVE_EVERY, KEPT = 5, 2
DOES_NOT_LOAD = 3
"""Exit code of a run whose newest checkpoint raised."""
STARTED, SAVING, SAVED = b"r", b"s", b"e"


class DrawnSamples(Dataset):  # type: ignore[type-arg]
    """The draw list as a map-style data set: entry number -> (number, sample)."""

    def __init__(self, latents: LatentsDataset, entries: list[tuple[int, int]]) -> None:
        self.latents, self.entries = latents, entries

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, number: int) -> tuple[int, EncodedSample]:
        return number, self.latents.read(*self.entries[number])


@dataclass
class Outcome:
    """What was counted."""

    kills: int = 0
    inside_save: int = 0
    broken: int = 0
    lineages: int = 0
    equal_curves: int = 0
    equal_weights: int = 0
    lost: int = 0
    repeated: int = 0


def draw_steps(folder: Path, steps: int) -> list[list[tuple[int, int]]]:
    """(sample, caption) of every entry of every step, as the packed loader deals them."""
    loader = PackedLoader(LatentsDataset(folder), BatchingConfig(pack_tokens=256, packs_per_step=2, lookahead=64), seed=1)
    drawn = []
    for _ in range(steps):
        packs = [loader.next_pack() for _ in range(2)]
        drawn.append([(entry.index, entry.caption) for pack in packs for entry in pack])
    return drawn


def step_loss(model: ErnieImageTransformer2DModel, samples: list[EncodedSample]) -> Tensor:
    """Mean of the samples' velocity losses; one padded forward pass for every latent size of the step."""
    groups: dict[torch.Size, list[EncodedSample]] = {}
    for sample in samples:
        groups.setdefault(sample.latents.shape, []).append(sample)
    losses = []
    for members in groups.values():
        clean = torch.stack([sample.latents for sample in members]).float()
        noise, sigma = torch.randn_like(clean), torch.sigmoid(torch.randn(len(members)))
        share = sigma[:, None, None, None]
        text = torch.nn.utils.rnn.pad_sequence([sample.prompt_embeds.float() for sample in members], batch_first=True)
        lengths = torch.tensor([len(sample.prompt_embeds) for sample in members])
        predicted = model((1 - share) * clean + share * noise, 1000 * sigma, text, lengths, return_dict=False)[0]
        losses.append((predicted - (noise - clean)).square().mean(dim=(1, 2, 3)))
    return torch.cat(losses).mean()


def step_of(checkpoint: Path) -> int:
    """Steps done when a checkpoint was saved."""
    return int(checkpoint.name.partition("-")[2])


def checkpoints(work: Path) -> list[Path]:
    """Checkpoints of a run, oldest first."""
    return sorted(work.glob("checkpoint-*"), key=step_of)


def train(folder: Path, work: Path, steps: list[list[tuple[int, int]]], pipe: int) -> int:
    """The plain loop; returns the exit code."""
    torch.set_num_threads(1)
    set_seed(1)
    accelerator = Accelerator(cpu=True)
    model = ErnieImageTransformer2DModel(**MODEL.model_dump())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = get_scheduler("constant_with_warmup", optimizer, num_warmup_steps=10)
    starts = [sum(len(step) for step in steps[:number]) for number in range(len(steps))]
    numbers = [list(range(start, start + len(step))) for start, step in zip(starts, steps, strict=True)]
    data = DrawnSamples(LatentsDataset(folder), [entry for step in steps for entry in step])
    loader = DataLoader(data, batch_sampler=numbers, collate_fn=list)
    model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
    done = 0
    if saved := checkpoints(work):
        try:
            accelerator.load_state(str(saved[-1]))
        except Exception as error:
            print(f"{saved[-1].name} does not load: {type(error).__name__}", file=sys.stderr)
            return DOES_NOT_LOAD
        done = step_of(saved[-1])
        loader = accelerator.skip_first_batches(loader, done)
    os.write(pipe, STARTED)
    journal = os.open(work / "journal.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for step, batch in enumerate(loader, done + 1):
        loss = step_loss(model, [sample for _, sample in batch])
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        os.write(journal, (json.dumps([step, float(loss).hex(), [number for number, _ in batch]]) + "\n").encode())
        if step % SAVE_EVERY == 0:
            os.write(pipe, SAVING)
            for old in checkpoints(work)[: -(KEPT - 1)]:
                shutil.rmtree(old)
            accelerator.save_state(str(work / f"checkpoint-{step}"))
            os.write(pipe, SAVED)
    accelerator.unwrap_model(model).save_pretrained(work / "model")
    (work / "done").touch()
    return 0


def start(folder: Path, work: Path, steps: list[list[tuple[int, int]]]) -> tuple[int, int]:
    """Forks a run; returns its id and the pipe it reports on."""
    work.mkdir(parents=True, exist_ok=True)
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        code = 1
        try:
            code = train(folder, work, steps, writing)
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(writing)
    os.set_blocking(reading, False)
    return process, reading


def wait_for(process: int, pipe: int, seconds: float, saves: int, jitter: float) -> tuple[int | None, bytes]:
    """Waits for `seconds`, or until save number `saves` has begun and `jitter` seconds more; (exit code or None, what was reported)."""
    deadline, told = time.monotonic() + (PATIENCE_SECONDS if saves else seconds), b""
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        told += read_all(pipe)
        if ended:
            return os.waitstatus_to_exitcode(status), told
        if saves and told.count(SAVING) >= saves:
            time.sleep(jitter)
            break
        time.sleep(0.0005)
    return None, told


def read_all(pipe: int) -> bytes:
    """What has been written to the pipe so far."""
    with contextlib.suppress(BlockingIOError):
        return os.read(pipe, 4096)
    return b""


def kill_matrix(folder: Path, steps: list[list[tuple[int, int]]], kills: int, seed: int) -> Outcome:
    """Kills, restarts and, where a restart fails, repairs, until the kills are spent and the last lineage has finished."""
    draw, outcome, latents = random.Random(seed), Outcome(), folder / "latents"
    reference = folder / "reference"
    code, _ = wait_for(*start(latents, reference, steps), PATIENCE_SECONDS, 0, 0.0)
    assert code == 0, "the undisturbed run did not finish"
    while outcome.kills < kills:
        work = folder / f"lineage-{outcome.lineages}"
        while not (work / "done").exists():
            process, pipe = start(latents, work, steps)
            kill = outcome.kills < kills
            seconds = draw.uniform(0.05, 1.5) if kill else PATIENCE_SECONDS
            saves = draw.randint(1, 4) if kill and outcome.kills % 3 == 0 else 0
            code, told = wait_for(process, pipe, seconds, saves, draw.uniform(0.0, 0.006))
            if code is None:
                assert kill, "the last run did not finish"
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                told += read_all(pipe)
                outcome.kills += 1
                outcome.inside_save += told.count(SAVING) > told.count(SAVED)
            elif code == DOES_NOT_LOAD:
                outcome.broken += 1
                shutil.rmtree(checkpoints(work)[-1])
            os.close(pipe)
        outcome.lineages += 1
        compare(outcome, work, reference)
    return outcome


def read_journal(path: Path) -> dict[int, list[tuple[str, list[int]]]]:
    """Step -> (exact loss, samples) of every time it was run."""
    found: dict[int, list[tuple[str, list[int]]]] = {}
    for line in path.read_text().splitlines():
        step, loss, samples = json.loads(line)
        found.setdefault(step, []).append((loss, samples))
    return found


def compare(outcome: Outcome, work: Path, reference: Path) -> None:
    """Counts what a killed lineage did differently; of a step that was run twice the last run is what the weights have seen."""
    mine, whole = read_journal(work / "journal.jsonl"), read_journal(reference / "journal.jsonl")
    outcome.equal_curves += {step: runs[-1][0] for step, runs in mine.items()} == {step: runs[-1][0] for step, runs in whole.items()}
    seen = [number for runs in mine.values() for number in runs[-1][1]]
    outcome.lost += len({number for runs in whole.values() for number in runs[-1][1]} - set(seen))
    outcome.repeated += len(seen) - len(set(seen))
    name = "model/diffusion_pytorch_model.safetensors"
    outcome.equal_weights += (work / name).read_bytes() == (reference / name).read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_latents(folder / "latents")
        outcome = kill_matrix(folder, draw_steps(folder / "latents", arguments.steps), arguments.kills, arguments.seed)
    versions = f"accelerate {accelerate.__version__}, diffusers {diffusers.__version__}, torch {torch.__version__}"
    print(f"peer: a plain loop on {versions}; {platform.machine()}, {os.cpu_count()} cores, one thread, seed {arguments.seed}")
    print(f"kill -9: {outcome.kills} ({outcome.inside_save} while a checkpoint was being written)")
    print(f"resumed without a person: {outcome.kills - outcome.broken}/{outcome.kills}; {outcome.broken} newest checkpoints did not load")
    print(f"lineages finished: {outcome.lineages} of {arguments.steps} steps each")
    print(f"loss curve bitwise equal to the undisturbed run: {outcome.equal_curves}/{outcome.lineages}")
    print(f"weights bitwise equal: {outcome.equal_weights}/{outcome.lineages}")
    print(f"samples lost: {outcome.lost}, repeated: {outcome.repeated}")
    print(f"took {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
