"""Hierarchical sampling weights of a large synthetic manifest, out of core: seconds, memory, and the same result twice."""

from __future__ import annotations

import argparse
import hashlib
import platform
import resource
import tempfile
import time
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from imagewright.config.curation import SamplingConfig
from imagewright.curation.sampling import weigh


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--categories", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=2)
    options = parser.parse_args()
    print(f"machine: {platform.machine()}, duckdb {duckdb.__version__}, one thread; synthetic manifest (6 columns)")
    with tempfile.TemporaryDirectory() as folder:
        source, destination = Path(folder) / "in.parquet", Path(folder) / "out.parquet"
        chance = "hash(i{}) / 18446744073709551616.0"
        columns = [
            "'key-' || i AS sample_key",
            f"'group/c' || CAST(floor(pow({chance.format('')}, 3) * {options.categories}) AS INT) AS category",
            "'train' AS split",
            "'' AS drop_reason",
            f"CAST({chance.format(' + 1')} AS FLOAT) AS score_aesthetic",
            "CAST(1 AS FLOAT) AS sampling_weight",
        ]
        duckdb.sql(f"SELECT {', '.join(columns)} FROM range({options.rows}) t(i)").write_parquet(str(source))  # noqa: S608 - numbers only
        digests = set()
        for _ in range(options.runs):
            start, cpu_start = time.perf_counter(), time.process_time()
            shares = weigh(source, destination, SamplingConfig(), seed=0)
            wall, cpu = time.perf_counter() - start, time.process_time() - cpu_start
            digests.add(digest_of(destination))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            speed = f"wall {wall:.1f} s, CPU {cpu:.1f} s, peak so far {peak:.2f} GiB"
            print(f"{options.rows} rows, {len(shares)} categories: {speed}", flush=True)
    if options.runs > 1:
        print(f"same weights in {options.runs} runs: {len(digests) == 1}")


def digest_of(weighed: Path) -> str:
    """SHA-256 of all weights, read in batches: the column of 100 million rows is not to count as the memory of weighing."""
    digest = hashlib.sha256()
    for batch in pq.ParquetFile(weighed).iter_batches(columns=["sampling_weight"]):
        digest.update(batch.column(0).to_numpy().tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
