"""How fast do encoded samples reach training, beside other loaders reading the same tensors?

Every loader makes the same pass: all samples once, shuffled, latents and prompt embeddings as torch tensors in one process without workers.
Ours also verifies a checksum of every tensor and packs under a token budget. Tensors are compared bit by bit first. Synthetic data.
"""

from __future__ import annotations

import argparse
import io
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imagewright.config.batching import BatchingConfig
from imagewright.data.latents import EncodedCaption, LatentsContract, LatentsDataset, LatentsWriter
from imagewright.data.packed_loader import PackedLoader
from imagewright.data.packing_plan import draw, draw_edges, pack_window, window_bounds

Sample = dict[str, Any]


def samples(num: int, text_dim: int) -> Iterator[Sample]:
    """Latents of the 256 stage in several aspects with captions of 16 to 128 tokens, as bit patterns every loader can hold."""
    random = np.random.default_rng(0)
    for index in range(num):
        height, width = [(16, 16), (12, 21), (21, 12), (14, 18)][index % 4]
        latents = torch.randn(128, height, width, generator=torch.Generator().manual_seed(index)).bfloat16()
        embeds = torch.randn(int(random.integers(16, 129)), text_dim, generator=torch.Generator().manual_seed(index + 10**6)).bfloat16()
        yield {"key": f"k{index:06d}", "latents": latents, "embeds": embeds}


def bits(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """The tensor's 16-bit patterns: peers have no bfloat16."""
    return tensor.view(torch.int16).numpy()


def write_ours(folder: Path, num: int, text_dim: int) -> None:
    contract = LatentsContract(stride=16, channels=128, text_dim=text_dim, max_tokens=128)
    with LatentsWriter(folder, contract, torch.zeros(1, text_dim)) as writer:
        for sample in samples(num, text_dim):
            writer.add(sample["key"], sample["latents"], [EncodedCaption("long", sample["embeds"])])


def read_ours(folder: Path, num: int) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    config = BatchingConfig(pack_tokens=8192, packs_per_step=1, lookahead=1024, caption_dropout=0.0)
    loader = PackedLoader(LatentsDataset(folder), config, seed=0)
    while num > 0:
        (batch,) = loader.next_step()
        num -= len(batch)
        yield from zip(batch.sample_keys, batch.latents, batch.prompt_embeds, strict=True)


def write_webdataset(folder: Path, num: int, text_dim: int) -> None:
    import webdataset

    folder.mkdir()
    with webdataset.ShardWriter(str(folder / "%05d.tar"), maxcount=512, verbose=0) as sink:
        for sample in samples(num, text_dim):
            parts = {}
            for name in ("latents", "embeds"):
                stream = io.BytesIO()
                np.save(stream, bits(sample[name]))
                parts[f"{name}.npy"] = stream.getvalue()
            sink.write({"__key__": sample["key"], **parts})


def read_webdataset(folder: Path, num: int) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    import webdataset

    urls = sorted(str(path) for path in folder.glob("*.tar"))
    stream = webdataset.WebDataset(urls, shardshuffle=len(urls)).shuffle(256).decode()
    for sample in stream:
        latents, embeds = (torch.from_numpy(sample[f"{name}.npy"]).view(torch.bfloat16) for name in ("latents", "embeds"))
        yield sample["__key__"], latents, embeds


def write_litdata(folder: Path, num: int, text_dim: int) -> None:
    from litdata.streaming.writer import BinaryWriter

    folder.mkdir()
    writer = BinaryWriter(str(folder), chunk_bytes="64MB")
    for index, sample in enumerate(samples(num, text_dim)):
        writer[index] = {"key": sample["key"], "latents": sample["latents"].view(torch.int16), "embeds": sample["embeds"].view(torch.int16)}
    writer.done()
    writer.merge()


def read_litdata(folder: Path, num: int) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    from litdata import StreamingDataset

    for sample in StreamingDataset(str(folder), shuffle=True):
        yield sample["key"], sample["latents"].view(torch.bfloat16), sample["embeds"].view(torch.bfloat16)


def write_streaming(folder: Path, num: int, text_dim: int) -> None:
    from streaming import MDSWriter

    with MDSWriter(out=str(folder), columns={"key": "str", "latents": "ndarray:int16", "embeds": "ndarray:int16"}) as writer:
        for sample in samples(num, text_dim):
            writer.write({"key": sample["key"], "latents": bits(sample["latents"]), "embeds": bits(sample["embeds"])})


def read_streaming(folder: Path, num: int) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    from streaming import StreamingDataset

    for sample in StreamingDataset(local=str(folder), shuffle=True, batch_size=16):
        latents, embeds = (torch.from_numpy(np.array(sample[name])).view(torch.bfloat16) for name in ("latents", "embeds"))
        yield sample["key"], latents, embeds


PEERS: dict[str, tuple[str, Callable[[Path, int, int], None], Callable[[Path, int], Iterator[tuple[str, torch.Tensor, torch.Tensor]]]]] = {
    "imagewright": ("", write_ours, read_ours),
    "webdataset": ("webdataset", write_webdataset, read_webdataset),
    "litdata": ("litdata", write_litdata, read_litdata),
    "streaming": ("mosaicml-streaming", write_streaming, read_streaming),
}


def check_equal(name: str, folder: Path, num: int, text_dim: int) -> None:
    """Every tensor a loader gives must be the one that was written, each exactly once."""
    found = {key: (latents, embeds) for key, latents, embeds in PEERS[name][2](folder, num)}
    for sample in samples(num, text_dim):
        latents, embeds = found.pop(sample["key"])
        assert torch.equal(bits_of(latents), bits_of(sample["latents"])), f"{name}: {sample['key']} differs"
        assert torch.equal(bits_of(embeds), bits_of(sample["embeds"])), f"{name}: {sample['key']} differs"
    assert not found, f"{name} gave samples that were not written"


def bits_of(tensor: torch.Tensor) -> torch.Tensor:
    """Bit patterns, so that NaN equals itself."""
    return tensor.contiguous().view(torch.int16)


def time_pass(name: str, folder: Path, num: int) -> float:
    """Seconds of one pass; every tensor's first element is touched."""
    started = time.perf_counter()
    count, total = 0, 0.0
    for _, latents, embeds in PEERS[name][2](folder, num):
        total += float(latents[0, 0, 0]) + float(embeds[0, 0])
        count += 1
    assert count == num, f"{name} gave {count} of {num} samples"
    return time.perf_counter() - started


def measure_plan(num: int) -> None:
    """Fill, balance and the time to resume on a large synthetic index (no tensors)."""
    random = np.random.default_rng(0)
    for stage, tokens, budget in ((256, 256, 16384), (512, 1024, 16384), (1024, 4096, 65536)):
        costs = (tokens * random.uniform(0.9, 1.1, 16384) + random.integers(16, 513, 16384)).astype(int).tolist()
        packs: list[list[int]] = []
        for window, (start, end) in enumerate(window_bounds(len(costs), 2048)):
            planned = pack_window(costs[start:end], budget)
            packs += [[costs[start + at] for at in pack] for pack in (planned[::-1] if window % 2 else planned)]
        loads = np.array([sum(pack) for pack in packs])
        steps = loads[: len(loads) // 8 * 8].reshape(-1, 8)
        imbalance = steps.max(axis=1) / steps.mean(axis=1) - 1
        print(
            f"packing {stage} px, budget {budget}: fill {loads.mean() / budget:.4f} of the budget, "
            f"{-(-sum(costs) // budget) / len(packs):.4f} of the fewest packs possible; "
            f"imbalance over 8 ranks mean {imbalance.mean():.4f}, worst {imbalance.max():.4f}"
        )
    edges = draw_edges(random.exponential(1.0, num))
    times = []
    for epoch in range(21):
        started = time.perf_counter()
        drawn = draw(edges, 0, epoch, "d", num - 2048, num)
        pack_window((300 + drawn % 200).tolist(), 16384)
        times.append(time.perf_counter() - started)
    print(f"resume at the end of an epoch of {num:,} samples (draw list + one window): median {statistics.median(times) * 1000:.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--text-dim", type=int, default=576)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--index", type=int, default=1_000_000)
    parser.add_argument("--peers", nargs="*", default=["webdataset", "litdata", "streaming"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"machine: {platform.machine()}, python {platform.python_version()}, torch {torch.__version__}, one thread")
    measure_plan(arguments.index)
    names = ["imagewright"]
    with tempfile.TemporaryDirectory() as scratch:
        for name in ["imagewright", *arguments.peers]:
            try:
                installed = version(PEERS[name][0]) if PEERS[name][0] else ""
                PEERS[name][1](Path(scratch) / name, arguments.samples, arguments.text_dim)
            except (PackageNotFoundError, ImportError) as error:
                print(f"{name}: not run, {error}", file=sys.stderr)
                continue
            check_equal(name, Path(scratch) / name, arguments.samples, arguments.text_dim)
            print(f"{name} {installed}: every tensor bit-equal")
            names += [name] if name not in names else []
        times: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(arguments.rounds):
            for name in names:
                times[name].append(time_pass(name, Path(scratch) / name, arguments.samples))
    ours = statistics.median(times["imagewright"])
    for name in names:
        seconds = statistics.median(times[name])
        spread = f"median of {arguments.rounds} interleaved passes, {min(times[name]):.2f}-{max(times[name]):.2f} s"
        rates = f"{arguments.samples / seconds:,.0f} samples/s ({spread})"
        print(f"{name}: {rates}" + (f"; imagewright is {seconds / ours:.2f}x as fast" if name != "imagewright" else ""))


if __name__ == "__main__":
    main()
