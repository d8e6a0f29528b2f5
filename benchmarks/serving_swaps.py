"""Does the server change models under load without failing a request?

Promotions of two payloads in turn through the promotion log, as `imagewright promote` writes it, while clients keep asking. The registry
server is not there at all: what is served follows the log in the store.
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

from serving_load import Answer, Request, closed_loop, machine, mixed_requests, server, verdict
from serving_peer import write_bundle

from imagewright.storage import Store, open_store
from imagewright.tracking.promotion import PromotionEntry, PromotionLog

PORT = 18434
SWAP_SECONDS = 300.0


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
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--concurrency", type=int, default=4, help="clients during the swaps")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/serving_swaps.txt"))
    options = parser.parse_args()
    lines = [machine(options.threads)]
    with tempfile.TemporaryDirectory() as scratch:
        folders = [write_bundle(Path(scratch) / str(seed), seed, small=True) for seed in range(2)]
        url = f"file://{scratch}/store"
        store = open_store(url)
        digests = [store.put_folder(folder) for folder in folders]
        promote(store, 1, digests[1])
        environment = {"IMAGEWRIGHT_STORE_URL": url, "IMAGEWRIGHT_HOME": f"{scratch}/home", "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
        command = ["-m", "imagewright.cli.main", "serve", "turbo", "--port", str(PORT), "--set", "serving.poll_seconds=0.1"]
        with server(command, PORT, options.threads, environment):
            started = time.monotonic()
            answers = asyncio.run(swap_under_load(PORT, store, digests, options.swaps, options.concurrency))
            seconds = time.monotonic() - started
    failed = Counter(answer.status for answer in answers if answer.status != 200)
    lines += [
        f"{options.swaps} promotions under {options.concurrency} clients in {seconds:.0f} s, {len(answers)} requests",
        verdict(f"failed requests ({dict(failed) or 'none'})", sum(failed.values()), 0, ""),
    ]
    print("\n".join(lines))
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
