"""Does the server stay quick under four times its load?

Poisson arrivals at four times the rate it sustains; admitted requests against the same server unloaded, and how fast refusals come. The
queue is short (`--max-queue`): a queue that fills the machine for throughput makes every answer slow.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections import Counter
from pathlib import Path

from serving_load import Request, closed_loop, machine, mixed_requests, open_loop, percentile, rate_of, server, verdict
from serving_peer import write_bundle

PORT = 18433
OVERLOAD = 4.0


def same_work(count: int, seed: int) -> list[Request]:
    """Requests of one size and number of steps, so that a slow answer is a loaded server and not a larger image."""
    return [Request(request.prompt, (32, 32), request.seed, 8, 1.0) for request in mixed_requests(count, seed)]


def overload(port: int, count: int, max_queue: int, warm_up: int) -> list[str]:
    """One queue length: unloaded, at the rate it sustains, and beyond."""
    asyncio.run(closed_loop(port, same_work(warm_up, 1), max_queue))
    unloaded = asyncio.run(closed_loop(port, same_work(count // 4, 2), 1))
    sustained = rate_of(asyncio.run(closed_loop(port, same_work(count // 4, 3), max_queue)))
    answers = asyncio.run(open_loop(port, same_work(count, 4), OVERLOAD * sustained))
    admitted = [answer.seconds for answer in answers if answer.status == 200]
    refused = [answer.seconds for answer in answers if answer.status == 429]
    others = Counter(answer.status for answer in answers if answer.status not in (200, 429))
    alone = percentile([answer.seconds for answer in unloaded], 0.99)
    loaded = percentile(admitted, 0.99)
    return [
        f"overload: max_queue {max_queue}, sustains {sustained:.1f} req/s, offered {OVERLOAD * sustained:.1f} req/s, {count} requests",
        f"{len(admitted)} admitted, {len(refused)} refused with 429, others {dict(others) or 'none'}",
        f"p99 unloaded {alone:.1f} ms, of the admitted {loaded:.1f} ms (p50 {percentile(admitted, 0.5):.1f} ms)",
        verdict("p99 of the admitted over unloaded", loaded / alone, 1.5, "x"),
        f"refusals: p50 {percentile(refused, 0.5):.2f} ms, slowest {max(refused) * 1e3:.1f} ms",
        verdict("p99 of a refusal", percentile(refused, 0.99), 10.0, " ms"),
    ]


def main() -> None:
    """Prints and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--warm-up", type=int, default=40)
    parser.add_argument("--max-queue", type=int, nargs="+", default=[1, 2], help="lengths of the queue, one after the other")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/serving_overload.txt"))
    options = parser.parse_args()
    lines = [machine(options.threads)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_bundle(Path(scratch))
        for length in options.max_queue:
            limits = ["--bundle", str(folder), "--port", str(PORT), "--set", f"serving.max_queue={length}"]
            with server(["-m", "imagewright.cli.main", "serve", *limits], PORT, options.threads):
                lines += overload(PORT, options.requests, length, options.warm_up)
            print("\n".join(lines[-6:]), flush=True)
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
