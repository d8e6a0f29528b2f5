"""How much CPU time does one whole training step of a small transformer take, and how much did another checkout of the source take?

The real trainer on packs of short samples (16 image tokens and 5 to 25 caption tokens, the demo's): loader, noise, forward, backward,
clipping, fused AdamW, average, curves. CPU milliseconds of the process on one thread, median over the steps; with `--against <src of
another checkout>` both run as processes of their own, alternating. Random latents: what is learned does not matter here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from imagewright.config.batching import BatchingConfig
from imagewright.config.model import ModelConfig
from imagewright.config.pretrain import PretrainConfig, PretrainStage
from imagewright.config.training import TrainingConfig
from imagewright.data.latents import EncodedCaption, LatentsContract, LatentsDataset, LatentsWriter
from imagewright.methods.pretrain_run import Pretraining, build_trainer
from imagewright.tracking.job_run import NullRun
from imagewright.training.hooks import StepReport
from imagewright.training.world import World

CHANNELS, TEXT_DIM = 20, 384
SHAPES = ((128, 4), (256, 6))
PACKS = (1024, 2048)


class Clock:
    """CPU milliseconds between the ends of successive steps."""

    def __init__(self) -> None:
        self.last, self.spent, self.loss = 0.0, list[float](), ""

    def after_step(self, report: StepReport) -> None:
        now = time.process_time()
        self.spent.append(1000 * (now - self.last))
        self.last, self.loss = now, report.loss.hex()


def write_latents(folder: Path, num: int) -> None:
    """Seeded samples of one size."""
    contract = LatentsContract(stride=8, channels=CHANNELS, text_dim=TEXT_DIM, max_tokens=32)
    with LatentsWriter(folder, contract, torch.zeros(1, TEXT_DIM)) as writer:
        for index in range(num):
            generator = torch.Generator().manual_seed(index)
            words = torch.randn(5 + index * 7 % 21, TEXT_DIM, generator=generator)
            writer.add(f"k{index}", torch.randn(CHANNELS, 4, 4, generator=generator), [EncodedCaption("long", words)])


def measure(folder: Path, hidden: int, layers: int, tokens: int, steps: int, optimizer: str) -> dict[str, object]:
    """Trains `steps` steps after two that warm up; their CPU milliseconds and the exact last loss."""
    torch.set_num_threads(1)
    model = ModelConfig(
        hidden_size=hidden,
        num_layers=layers,
        num_attention_heads=hidden // 32,
        ffn_hidden_size=3 * hidden,
        rope_axes_dim=(8, 12, 12),
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        text_in_dim=TEXT_DIM,
    )
    batching = BatchingConfig(pack_tokens=tokens, packs_per_step=1, lookahead=256)
    pretrain = PretrainConfig(stages=(PretrainStage(steps=steps + 2, learning_rate=1e-3, batching=batching),), validation_samples=0)
    training = TrainingConfig(ema_decay=0.99, checkpoint_every_steps=10**6, validate_every_steps=0, optimizer=optimizer)  # type: ignore[arg-type]
    clock = Clock()
    with tempfile.TemporaryDirectory() as scratch:
        run = Pretraining(model, pretrain, training, folder, Path(scratch), seed=1)
        build_trainer(run, LatentsDataset(folder), NullRun(), World(), (clock,))[0].fit()
    return {"spent": clock.spent[2:-1], "loss": clock.loss}  # the last step also saves


def run_child(source: Path, arguments: list[str]) -> dict[str, object]:
    """Measures in a process of its own that imports the package from `source`."""
    environ = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, __file__, "--child", *arguments], env=environ, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, default=None, help="src folder of another checkout")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--child", nargs=4, metavar=("LATENTS", "HIDDEN", "LAYERS", "TOKENS"), default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        folder, *shape = arguments.child
        print(json.dumps(measure(Path(folder), *map(int, shape), arguments.steps, arguments.optimizer)))
        return
    sources = {"now": Path(__file__).parents[1] / "src"} | ({"before": arguments.against.resolve()} if arguments.against else {})
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, one thread, {arguments.optimizer}")
    print(f"CPU milliseconds a step: median of {arguments.rounds} x {arguments.steps - 1} steps, alternating processes")
    with tempfile.TemporaryDirectory() as scratch:
        write_latents(Path(scratch) / "latents", 600)
        for hidden, layers in SHAPES:
            for tokens in PACKS:
                report(sources, [f"{scratch}/latents", str(hidden), str(layers), str(tokens)], arguments)


def report(sources: dict[str, Path], shape: list[str], arguments: argparse.Namespace) -> None:
    """One line: every source's median on one shape, and their ratio where there are two."""
    spent: dict[str, list[float]] = {name: [] for name in sources}
    losses = {}
    for _ in range(arguments.rounds):
        for name, source in sources.items():
            found = run_child(source, [*shape, "--steps", str(arguments.steps), "--optimizer", arguments.optimizer])
            spent[name] += found["spent"]  # type: ignore[operator]
            losses[name] = float.fromhex(str(found["loss"]))
    medians = {name: statistics.median(values) for name, values in spent.items()}
    line = f"hidden {shape[1]}, {shape[2]} layers, packs of {shape[3]}: " + ", ".join(f"{name} {ms:.1f} ms" for name, ms in medians.items())
    if "before" in medians:
        differs = abs(losses["now"] - losses["before"]) / losses["before"]
        line += f"; {medians['now'] / medians['before']:.2f} x before; last losses differ by {differs:.1e}"
    print(line, flush=True)


if __name__ == "__main__":
    main()
