"""How much faster is a packed training step than a padded one? Compares with diffusers' own class in a fair loop.

Both sides train the same weights on the same samples: forward, per-sample mean loss, backward, fused AdamW. The peer's batches are
bucketed by aspect and sorted by caption length before they are padded; only the rows marked `same batch` leave the captions unsorted.
Useful tokens are those of real image and caption tokens; padding does not count.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import diffusers
import torch
from diffusers import ErnieImageTransformer2DModel
from torch import Tensor

from imagewright.config.model import ModelConfig
from imagewright.models.dit import ErnieImageDiT
from imagewright.models.packing import Pack, pack_samples

STAGE_MODEL = ModelConfig(
    hidden_size=128, num_layers=1, num_attention_heads=1, ffn_hidden_size=384, text_in_dim=192, rope_axes_dim=(32, 48, 48)
)
DEMO_MODEL = ModelConfig(in_channels=32, out_channels=32)
SIZES_256 = ((16, 16), (14, 18), (18, 14))
SIZES_512 = ((32, 32), (28, 37), (37, 28))
SIZES_1024 = ((64, 64), (53, 79))


@dataclass(frozen=True)
class Scenario:
    """One row of the table: what is drawn and how the peer batches it."""

    name: str
    config: ModelConfig
    sizes: tuple[tuple[int, int], ...]
    captions: tuple[int, int]
    num_samples: int
    batch_size: int
    dtype: torch.dtype = torch.float32
    sort: bool = True


@dataclass(frozen=True)
class Sample:
    latent: Tensor
    prompt: Tensor
    target: Tensor
    timestep: float

    @property
    def num_tokens(self) -> int:
        return self.latent.shape[1] * self.latent.shape[2] + self.prompt.shape[0]


SCENARIOS = (
    Scenario("256 stage", STAGE_MODEL, SIZES_256, (16, 512), 24, 4),
    Scenario("256, same batch", STAGE_MODEL, ((16, 16),), (16, 512), 8, 8, sort=False),
    Scenario("256, same batch, bf16", STAGE_MODEL, ((16, 16),), (16, 512), 6, 6, torch.bfloat16, sort=False),
    Scenario("demo, same batch", DEMO_MODEL, ((8, 8),), (8, 32), 32, 32, sort=False),
    Scenario("512 stage", STAGE_MODEL, SIZES_512, (16, 512), 12, 2),
    Scenario("demo, sorted, batch 8", DEMO_MODEL, ((8, 8), (6, 8), (8, 6)), (8, 32), 32, 8),
    Scenario("demo, sorted, batch 24", DEMO_MODEL, ((8, 8), (6, 8), (8, 6)), (8, 32), 24, 24),
    Scenario("1024 stage", STAGE_MODEL, SIZES_1024, (16, 512), 4, 2),
)


def draw_samples(scenario: Scenario, seed: int) -> list[Sample]:
    """Samples with uniform caption lengths and aspects."""
    torch.manual_seed(seed)
    choose = random.Random(seed)
    samples = []
    for _ in range(scenario.num_samples):
        shape = (scenario.config.in_channels, *choose.choice(scenario.sizes))
        prompt = torch.randn(choose.randint(*scenario.captions), scenario.config.text_in_dim)
        latent, target = torch.randn(shape), torch.randn(shape)
        samples.append(Sample(latent.to(scenario.dtype), prompt.to(scenario.dtype), target, 1000 * choose.random()))
    return samples


def bucket_batches(samples: list[Sample], scenario: Scenario) -> list[list[int]]:
    """The peer's batches: one aspect each, neighbours in caption length when `sort`."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, sample in enumerate(samples):
        groups.setdefault(tuple(sample.latent.shape), []).append(index)
    batches = []
    for members in groups.values():
        ordered = sorted(members, key=lambda index: len(samples[index].prompt)) if scenario.sort else members
        batches.extend(ordered[start : start + scenario.batch_size] for start in range(0, len(ordered), scenario.batch_size))
    return batches


def deal_packs(samples: list[Sample], count: int) -> list[list[int]]:
    """As many packs as the peer has batches, so that both sides take the same number of optimizer steps; longest first, evenest fill."""
    packs: list[list[int]] = [[] for _ in range(count)]
    fill = [0] * count
    for index in sorted(range(len(samples)), key=lambda index: -samples[index].num_tokens):
        lightest = fill.index(min(fill))
        packs[lightest].append(index)
        fill[lightest] += samples[index].num_tokens
    return [pack for pack in packs if pack]


def packed_losses(model: ErnieImageDiT, pack: Pack, target: Tensor) -> Tensor:
    return pack.mean_per_sample((model(pack).float() - target).square())


def padded_losses(model: ErnieImageTransformer2DModel, batch: tuple[Tensor, Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    latents, timesteps, text, lengths, target = batch
    predicted = model(latents, timesteps, text, lengths, return_dict=False)[0]
    return (predicted.float() - target).square().mean(dim=(1, 2, 3))


def pad_batch(samples: list[Sample]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return (
        torch.stack([sample.latent for sample in samples]),
        torch.tensor([sample.timestep for sample in samples]),
        torch.nn.utils.rnn.pad_sequence([sample.prompt for sample in samples], batch_first=True),
        torch.tensor([len(sample.prompt) for sample in samples]),
        torch.stack([sample.target for sample in samples]),
    )


def pack_batch(samples: list[Sample]) -> tuple[Pack, Tensor]:
    timesteps = torch.tensor([sample.timestep for sample in samples])
    pack = pack_samples([sample.latent for sample in samples], [sample.prompt for sample in samples], timesteps)
    return pack, torch.cat([sample.target.flatten(1).t() for sample in samples])


def build_models(scenario: Scenario) -> tuple[ErnieImageDiT, ErnieImageTransformer2DModel]:
    ours = ErnieImageDiT(scenario.config)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    theirs = ErnieImageTransformer2DModel(**scenario.config.model_dump())
    theirs.load_state_dict(ours.state_dict())
    return ours.to(scenario.dtype), theirs.to(scenario.dtype)


def timed_pass(losses: list[Callable[[], Tensor]], optimizer: torch.optim.Optimizer) -> tuple[float, float]:
    """Wall and CPU seconds for one optimizer step on every batch."""
    start, start_cpu = time.perf_counter(), time.process_time()
    for compute in losses:
        optimizer.zero_grad(set_to_none=True)
        compute().mean().backward()
        optimizer.step()
    return time.perf_counter() - start, time.process_time() - start_cpu


def check_losses(scenario: Scenario, ours: list[tuple[list[int], Tensor]], theirs: list[tuple[list[int], Tensor]]) -> float:
    """Largest relative difference between the two sides' per-sample losses; raises when they are not the same computation."""
    values = []
    for side in (ours, theirs):
        flat = torch.empty(scenario.num_samples)
        for members, losses in side:
            flat[members] = losses.detach().float()
        values.append(flat)
    worst = ((values[0] - values[1]).abs() / values[1]).max().item()
    limit = 1e-4 if scenario.dtype == torch.float32 else 3e-2
    assert worst < limit, f"per-sample losses differ by {worst:.1e}"
    return worst


def run_scenario(scenario: Scenario, repeats: int, seed: int) -> str:
    samples = draw_samples(scenario, seed)
    ours, theirs = build_models(scenario)
    batches = bucket_batches(samples, scenario)
    packs = deal_packs(samples, len(batches))
    packed = [pack_batch([samples[index] for index in members]) for members in packs]
    padded = [pad_batch([samples[index] for index in members]) for members in batches]
    our_losses = [lambda item=item: packed_losses(ours, *item) for item in packed]
    their_losses = [lambda item=item: padded_losses(theirs, item) for item in padded]
    with torch.no_grad():
        worst = check_losses(
            scenario,
            [(members, compute()) for members, compute in zip(packs, our_losses, strict=True)],
            [(members, compute()) for members, compute in zip(batches, their_losses, strict=True)],
        )
    sides = [
        (losses, torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True))
        for model, losses in ((ours, our_losses), (theirs, their_losses))
    ]
    times: list[list[tuple[float, float]]] = [[], []]
    for repeat in range(repeats + 1):
        for side, (losses, optimizer) in enumerate(sides):
            seconds = timed_pass(losses, optimizer)
            if repeat:  # the first pass warms up
                times[side].append(seconds)
    useful = sum(sample.num_tokens for sample in samples)
    slots = sum(batch[2].shape[0] * (batch[2].shape[1] + batch[0].shape[2] * batch[0].shape[3]) for batch in padded)
    padding = slots / useful
    (mine, mine_cpu), (peer, peer_cpu) = ([statistics.median(column) for column in zip(*side, strict=True)] for side in times)
    return (
        f"{scenario.name:22s} {len(samples):7d} {len(batches):5d} {padding:13.2f} {useful / mine:8.0f} {useful / peer:9.0f} "
        f"{len(samples) / mine:8.2f} {len(samples) / peer:9.2f} "
        f"{peer / mine:8.2f} {peer_cpu / mine_cpu:12.2f} {mine / peer:10.2f} {worst:9.0e}"
    )


HEADER = (
    "                                       theoretical   useful tokens/s      samples/s       packed vs diffusers        time    loss\n"
    "row                    samples steps padded/useful   packed diffusers   packed diffusers  (wall)   (CPU seconds)  ratio    differs"
)


def machine() -> str:
    cpu = Path("/proc/cpuinfo").read_text()
    names = [line.split(":")[1].strip() for line in cpu.splitlines() if line.startswith("model name")] or [platform.processor()]
    bf16 = "in hardware" if "avx512_bf16" in cpu or "amx_bf16" in cpu else "emulated"
    return f"{names[0]}, {len(names)} cores, bf16 {bf16}, load {os.getloadavg()[0]:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="run the rows whose name holds this text")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"machine: {machine()}; {arguments.threads} thread(s); torch {torch.__version__}; peer: diffusers {diffusers.__version__}")
    print(f"medians of {arguments.repeats} interleaved passes; simulated samples: random latents, uniform caption lengths; no GPU was used")
    print("stage rows: true token counts, one block of width 128 (the 8B model is 4096 wide: attention weighs more here than there)")
    print(HEADER)
    for scenario in SCENARIOS:
        if arguments.only in scenario.name:
            print(run_scenario(scenario, arguments.repeats, arguments.seed), flush=True)


if __name__ == "__main__":
    main()
