"""Up to what length do short segments attend faster by batched products than by torch's flash kernel, on this CPU?

Forward and backward of one layer on a pack of 2,048 tokens cut into segments of one length. CPU milliseconds, interleaved, medians.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.nn.functional as F
from torch import Tensor

from imagewright.models.short_attention import LONGEST_SHORT, attend_short

TOKENS = 2048
LENGTHS = (16, 32, 64, 96, 128, 256)


def flash(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """torch's own, [batch, length, heads, d]."""
    return F.scaled_dot_product_attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)).transpose(1, 2)


def time_once(attend: Callable[[Tensor, Tensor, Tensor], Tensor], inputs: list[Tensor]) -> float:
    """CPU milliseconds of one forward and backward pass."""
    started = time.process_time()
    out = attend(*inputs)
    out.backward(torch.ones_like(out))
    return 1000 * (time.process_time() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"machine: {platform.machine()}, torch {torch.__version__}, one thread; in use up to {LONGEST_SHORT} tokens")
    arms = {"short": lambda q, k, v: attend_short(q, k, v, None), "flash": flash}
    for dtype in (torch.float32, torch.bfloat16):
        for heads, width in ((4, 32), (4, 64)):
            for length in LENGTHS:
                inputs = [torch.randn(TOKENS // length, length, heads, width, dtype=dtype, requires_grad=True) for _ in range(3)]
                times: dict[str, list[float]] = {name: [] for name in arms}
                for _ in range(arguments.repeats + 1):
                    for name, attend in arms.items():
                        times[name].append(time_once(attend, inputs))
                short, other = (statistics.median(times[name][1:]) for name in ("short", "flash"))
                shape = f"{str(dtype).removeprefix('torch.')}, {heads} heads of {width}, segments of {length:3}"
                print(f"{shape}: short {short:7.2f} ms, flash {other:7.2f} ms, {short / other:.2f}", flush=True)


if __name__ == "__main__":
    main()
