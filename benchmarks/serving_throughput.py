"""How fast is the batching server beside a sequential diffusers server on the same weights?

1. What a request costs beyond the same calls made in this process, one at a time, alternating.
2. Requests a second and p99 at the given concurrency, in rounds that alternate with `ErnieImagePipeline` behind FastAPI.

Whether it draws the right images is asked by `serving_exactness.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from serving_exactness import draw_alone
from serving_load import Connection, Request, closed_loop, machine, mixed_requests, percentile, rate_of, server, spread, verdict
from serving_peer import write_bundle

from imagewright.serving.bundle import Bundle, load_bundle

OURS, PEER = 18431, 18432
WARM_UP = 24


def ratio(rounds: int, count: int, concurrency: int) -> list[str]:
    """Part 2: rates and tails of both servers."""
    rates: dict[int, list[float]] = {OURS: [], PEER: []}
    tails: dict[int, list[float]] = {OURS: [], PEER: []}
    for number in range(rounds):
        requests = mixed_requests(count, seed=number + 1)
        for port in (OURS, PEER) if number % 2 else (PEER, OURS):
            answers = asyncio.run(closed_loop(port, requests, concurrency))
            assert all(answer.status == 200 for answer in answers), "a server refused a request"
            rates[port].append(rate_of(answers))
            tails[port].append(percentile([answer.seconds for answer in answers], 0.99))
    faster = [ours / peer for ours, peer in zip(rates[OURS], rates[PEER], strict=True)]
    shorter = [ours / peer for ours, peer in zip(tails[OURS], tails[PEER], strict=True)]
    return [
        f"{rounds} interleaved rounds of {count} requests at concurrency {concurrency}; median (range)",
        f"imagewright: {spread(rates[OURS])} req/s, p99 {spread(tails[OURS])} ms",
        f"diffusers: {spread(rates[PEER])} req/s, p99 {spread(tails[PEER])} ms",
        verdict("requests a second over the peer's", statistics.median(faster), 2.0, "x", at_least=True),
        verdict("p99 over the peer's", statistics.median(shorter), 0.5, "x"),
    ]


async def over_http(requests: Sequence[Request], bundle: Bundle) -> tuple[list[float], list[float]]:
    """Seconds of every request through the server and of its raw call, taken in turn."""
    connection, served, raw = Connection(OURS), [], []
    for request in requests:
        answer = await connection.post(request)
        assert answer.status == 200
        served.append(answer.seconds)
        started = time.monotonic()
        draw_alone(bundle, request)
        raw.append(time.monotonic() - started)
    connection.close()
    return served, raw


def overhead(bundle: Bundle, count: int) -> list[str]:
    """Part 1: the cost of going through the server."""
    served, raw = asyncio.run(over_http(mixed_requests(count, seed=90), bundle))
    extra = [over - alone for over, alone in zip(served, raw, strict=True)]
    return [
        f"{count} requests one at a time: p50 {percentile(served, 0.5):.1f} ms, the raw calls {percentile(raw, 0.5):.1f} ms",
        verdict("p50 of a request's overhead over its raw call", percentile(extra, 0.5), 3.0, " ms"),
    ]


def main() -> None:
    """Prints and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of part 2")
    parser.add_argument("--round-requests", type=int, default=80)
    parser.add_argument("--overhead-requests", type=int, default=100)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bundle", type=Path, help="diffusers folder; random weights of the demo's shape without it")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/serving_throughput.txt"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lines = [machine(options.threads)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.bundle or write_bundle(Path(scratch))
        bundle = load_bundle(folder)
        ours = ["-m", "imagewright.cli.main", "serve", "--bundle", str(folder), "--port", str(OURS)]
        peer = ["benchmarks/serving_peer.py", str(folder), str(PEER)]
        with server(ours, OURS, options.threads), server(peer, PEER, options.threads):
            for port in (OURS, PEER):
                asyncio.run(closed_loop(port, mixed_requests(WARM_UP, seed=91), options.concurrency))
            lines += overhead(bundle, options.overhead_requests)
            print("\n".join(lines), flush=True)
            lines += ratio(options.rounds, options.round_requests, options.concurrency)
            print("\n".join(lines[-5:]), flush=True)
    lines[0] += f"; at the end {machine(options.threads).split('load average ')[1].split(';')[0]}"
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
