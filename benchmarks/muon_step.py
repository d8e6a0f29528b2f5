"""What does Muon add to an optimizer step? Ours and `torch.optim.Muon` beside fused AdamW, on the block matrices of small transformers.

CPU time of one step on random gradients, interleaved, medians. torch's Muon orthogonalises in bf16 everywhere, ours in fp32 on a CPU.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import nn
from torch.optim import Optimizer

from imagewright.training.muon import MuonAdamW


def block_matrices(hidden: int, layers: int) -> list[nn.Parameter]:
    """Weights of `layers` blocks: four square ones, two up and one down by a factor of 3."""
    shapes = [(hidden, hidden)] * 4 + [(3 * hidden, hidden)] * 2 + [(hidden, 3 * hidden)]
    return [nn.Parameter(0.02 * torch.randn(shape)) for _ in range(layers) for shape in shapes]


def optimizers(weights: list[nn.Parameter]) -> dict[str, Optimizer]:
    """The three arms on the same weights."""
    return {
        "fused AdamW": torch.optim.AdamW(weights, lr=1e-4, fused=True),
        "Muon, imagewright": MuonAdamW([{"params": weights, "lr": 1e-4, "weight_decay": 0.0}], [], betas=(0.9, 0.95), eps=1e-8),
        "Muon, torch": torch.optim.Muon(weights, lr=1e-4, adjust_lr_fn="match_rms_adamw"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"machine: {platform.machine()}, torch {torch.__version__}, one thread; CPU milliseconds a step, median of {arguments.repeats}")
    for hidden, layers in ((128, 4), (256, 6)):
        torch.manual_seed(0)
        weights = block_matrices(hidden, layers)
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        arms = optimizers(weights)
        for optimizer in arms.values():
            optimizer.step()
        times: dict[str, list[float]] = {name: [] for name in arms}
        for _ in range(arguments.repeats):
            for name, optimizer in arms.items():
                started = time.process_time()
                optimizer.step()
                times[name].append(1000 * (time.process_time() - started))
        medians = {name: statistics.median(values) for name, values in times.items()}
        for name, median in medians.items():
            print(f"hidden {hidden}, {layers} layers: {name:18} {median:9.2f} ms, {median / medians['Muon, imagewright']:.2f} x ours")


if __name__ == "__main__":
    main()
