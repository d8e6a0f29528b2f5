"""Every pair of 64-bit hashes within a Hamming radius: our exact self-join on uniform and on clustered hashes (synthetic)."""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import numpy as np

from imagewright.curation.hamming import pairs_within


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hashes", type=int, default=1_000_000)
    parser.add_argument("--radius", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, options.hashes, dtype=np.uint64)
    planted = options.hashes // 10
    for bit in range(options.radius):
        hashes[-planted:] = (hashes[:planted] if bit == 0 else hashes[-planted:]) ^ (
            np.uint64(1) << rng.integers(0, 64, planted).astype(np.uint64)
        )
    seconds, cpu_seconds = [], []
    for _ in range(options.runs):
        start, cpu_start = time.perf_counter(), time.process_time()
        pairs = pairs_within(hashes, options.radius)
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    sample = rng.choice(options.hashes, 200, replace=False)
    expected = sum(int((np.bitwise_count(hashes ^ hashes[i]) <= options.radius).sum()) - 1 for i in sample)
    found = int(np.isin(pairs, sample).sum())
    print(f"machine: {platform.machine()}, numpy {np.__version__}, one thread; synthetic hashes, {planted} planted near pairs")
    print(f"{options.hashes} hashes, radius {options.radius}: {len(pairs)} pairs, median of {options.runs} runs")
    print(f"wall {statistics.median(seconds):.2f} s, CPU {statistics.median(cpu_seconds):.2f} s (they differ when the machine is shared)")
    print(f"against brute force on 200 of them: {found} of {expected} neighbours")
    assert found == expected, "the join is exact"


if __name__ == "__main__":
    main()
