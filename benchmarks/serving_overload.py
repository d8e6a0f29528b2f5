"""Does the server stay quick under four times its load, and does it change models under load without failing a request?

1. Overload: Poisson arrivals at four times the rate it sustains; admitted requests against the same server unloaded, and how fast
   refusals come. The queue is short (`--max-queue`): a queue that fills the machine for throughput makes every answer slow.
2. Swaps: promotions of two payloads in turn through the promotion log, as `imagewright promote` writes it, while clients keep asking.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from serving_load import Answer, Request, closed_loop, machine, mixed_requests, open_loop, percentile, rate_of, server, verdict
from serving_peer import write_bundle

from imagewright.storage import Store, open_store
from imagewright.tracking.promotion import PromotionEntry, PromotionLog

PORT, SWAP_PORT = 18433, 18434
OVERLOAD = 4.0
SWAP_SECONDS = 60.0


def same_work(count: int, seed: int) -> list[Request]:
    """Requests of one size and number of steps, so that a slow answer is a loaded server and not a larger image."""
    return [Request(request.prompt, (32, 32), request.seed, 8, 1.0) for request in mixed_requests(count, seed)]


def overload(port: int, count: int, max_queue: int, warm_up: int) -> list[str]:
    """Part 1."""
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


def promote(store: Store, number: int, digest: str) -> None:
    """Appends one entry to the promotion log of `turbo`."""
    entry = PromotionEntry(
        id=uuid.uuid4().hex,
        model="turbo",
        number=number,
        action="promote",
        version=number,
        digest=digest,
        against_number=number - 1,
        against_version=number - 1,
        against_digest="",
        created_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    assert PromotionLog(store, "turbo").append(entry), "somebody else promoted"


async def served_model(port: int) -> str:
    """Name of the served version."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["model"])


async def swap_under_load(port: int, store: Store, digests: Sequence[str], swaps: int, concurrency: int) -> list[Answer]:
    """Clients ask until the last promotion is served."""
    stop = asyncio.Event()
    answers: list[Answer] = []

    async def client(number: int) -> None:
        for request in endless(number):
            if stop.is_set():
                return
            answers.extend(await closed_loop(port, [request], 1))

    clients = [asyncio.create_task(client(number)) for number in range(concurrency)]
    for number in range(2, swaps + 2):
        await asyncio.to_thread(promote, store, number, digests[number % 2])
        deadline = time.monotonic() + SWAP_SECONDS
        while await served_model(port) != f"turbo@{number}":
            assert time.monotonic() < deadline, f"turbo@{number} was not swapped in"
            await asyncio.sleep(0.02)
    stop.set()
    await asyncio.gather(*clients)
    return answers


def endless(number: int) -> Iterator[Request]:
    """Requests without end."""
    batch = 0
    while True:
        batch += 1
        yield from mixed_requests(64, seed=number * 1000 + batch)


def main() -> None:
    """Prints and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000, help="of the overload")
    parser.add_argument("--warm-up", type=int, default=40)
    parser.add_argument("--max-queue", type=int, default=2)
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--concurrency", type=int, default=4, help="clients during the swaps")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/serving_overload.txt"))
    options = parser.parse_args()
    lines = [machine(options.threads)]
    with tempfile.TemporaryDirectory() as scratch:
        folders = [write_bundle(Path(scratch) / str(seed), seed) for seed in range(2)]
        command = ["-m", "imagewright.cli.main", "serve"]
        short = ["--bundle", str(folders[0]), "--port", str(PORT), "--set", f"serving.max_queue={options.max_queue}"]
        with server([*command, *short], PORT, options.threads):
            lines += overload(PORT, options.requests, options.max_queue, options.warm_up)
        print("\n".join(lines), flush=True)
        url = f"file://{scratch}/store"
        store = open_store(url)
        digests = [store.put_folder(folder) for folder in folders]
        promote(store, 1, digests[1])
        environment = {"IMAGEWRIGHT_STORE_URL": url, "IMAGEWRIGHT_HOME": f"{scratch}/home", "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
        following = ["turbo", "--port", str(SWAP_PORT), "--set", "serving.poll_seconds=0.1"]
        with server([*command, *following], SWAP_PORT, options.threads, environment):
            started = time.monotonic()
            answers = asyncio.run(swap_under_load(SWAP_PORT, store, digests, options.swaps, options.concurrency))
            seconds = time.monotonic() - started
        failed = Counter(answer.status for answer in answers if answer.status != 200)
        statuses = dict(failed) or "none"
        lines += [
            f"swaps: {options.swaps} promotions under {options.concurrency} clients in {seconds:.0f} s, {len(answers)} requests",
            verdict(f"failed requests ({statuses})", sum(failed.values()), 0, ""),
        ]
        print("\n".join(lines[-2:]), flush=True)
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
