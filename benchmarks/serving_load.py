"""Load for an image server: a mix of requests, a small HTTP client, closed and open loops, percentiles.

Used by the serving benchmarks; the client keeps its own work low, because it shares the machine with the server it measures.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = ((32, 32), (48, 32), (32, 64), (64, 64))
STEPS = (2, 4, 8)
COLOURS = ("red", "blue", "green", "yellow", "purple")
SHAPES = ("circle", "square", "triangle", "star", "cross")
START_SECONDS = 180.0
FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Request:
    """One image to ask for; size is (width, height)."""

    prompt: str
    size: tuple[int, int]
    seed: int
    steps: int
    guidance_scale: float

    def body(self) -> bytes:
        """JSON of the Images API."""
        fields = {"prompt": self.prompt, "size": f"{self.size[0]}x{self.size[1]}", "seed": self.seed, "steps": self.steps}
        return json.dumps({**fields, "guidance_scale": self.guidance_scale, "enhancer": False}).encode()


@dataclass(frozen=True)
class Answer:
    """What came back. status 0: the connection broke. started, seconds: on the monotonic clock."""

    request: Request
    status: int
    started: float
    seconds: float
    body: bytes

    def image(self) -> np.ndarray:
        """Pixels [H, W, 3] as floats."""
        encoded = json.loads(self.body)["data"][0]["b64_json"]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))), dtype=np.float32)


def mixed_requests(count: int, seed: int = 0) -> list[Request]:
    """Different prompts of different lengths, sizes, steps and seeds; one in ten is guided and needs two passes a step."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        parts = [f"{rng.choice(COLOURS)} {rng.choice(SHAPES)}" for _ in range(rng.randint(1, 3))]
        guidance = 4.0 if rng.random() < 0.1 else 1.0
        found.append(Request(f"{number} a {' and a '.join(parts)}", rng.choice(SIZES), seed * 10**7 + number, rng.choice(STEPS), guidance))
    return found


class Connection:
    """One keep-alive HTTP/1.1 connection."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def post(self, request: Request) -> Answer:
        """Sends one request and reads its whole answer."""
        body = request.body()
        started = time.monotonic()
        try:
            if self.reader is not None and self.reader.at_eof():
                self.close()  # the server ended an idle connection
            if self.writer is None:
                self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 24)
            assert self.reader is not None
            head = (
                f"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            self.writer.write(head.encode() + body)
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
            length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
            content = await self.reader.readexactly(length)
            return Answer(request, int(lines[0].split()[1]), started, time.monotonic() - started, content)
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return Answer(request, 0, started, time.monotonic() - started, b"")

    def close(self) -> None:
        """Drops the connection; the next request opens a new one."""
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


async def closed_loop(port: int, requests: Sequence[Request], concurrency: int) -> list[Answer]:
    """`concurrency` clients, each sending its next request when the last one is answered."""
    pending, answers = iter(requests), []

    async def client() -> None:
        connection = Connection(port)
        for request in pending:
            answers.append(await connection.post(request))
        connection.close()

    await asyncio.gather(*(client() for _ in range(concurrency)))
    return answers


async def open_loop(port: int, requests: Sequence[Request], rate: float, seed: int = 0) -> list[Answer]:
    """Poisson arrivals of `rate` requests a second, whatever the server does: overload stays overload."""
    rng, idle, due = random.Random(seed), [], time.monotonic()

    async def send(request: Request) -> Answer:
        connection = idle.pop() if idle else Connection(port)
        answer = await connection.post(request)
        idle.append(connection)
        return answer

    tasks = []
    for request in requests:
        due += rng.expovariate(rate)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        tasks.append(asyncio.create_task(send(request)))
    answers = list(await asyncio.gather(*tasks))
    for connection in idle:
        connection.close()
    return answers


def percentile(seconds: Sequence[float], share: float) -> float:
    """Milliseconds below which `share` of the values lie (nearest rank)."""
    ordered = sorted(seconds)
    return 1e3 * ordered[min(len(ordered) - 1, max(0, -(-int(share * 1e6) * len(ordered) // 10**6) - 1))]


def rate_of(answers: Sequence[Answer]) -> float:
    """Answers a second, from the first request sent to the last answer."""
    return len(answers) / (max(a.started + a.seconds for a in answers) - min(a.started for a in answers))


@contextlib.contextmanager
def server(command: Sequence[str], port: int, threads: int, environment: dict[str, str] | None = None) -> Iterator[int]:
    """Runs a server until the block ends; ready when its health page answers."""
    settings = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", **(environment or {})}
    process = subprocess.Popen([sys.executable, *command], env=settings, stdout=subprocess.DEVNULL, cwd=FOLDER.parent)
    try:
        asyncio.run(wait_until_ready(port, process))
        yield port
    finally:
        process.terminate()
        process.wait(90)


async def wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    """Raises RuntimeError when the server ends or does not listen in time."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.2)
        else:
            writer.close()
            return
    raise RuntimeError("the server did not start")


def machine(threads: int) -> str:
    """One line about where this ran."""
    peers = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers", "fastapi", "uvicorn"))
    return f"{platform.machine()}, {os.cpu_count()} CPUs, {threads} torch threads a server, load average {os.getloadavg()[0]:.1f}; {peers}"


def verdict(name: str, value: float, target: float, unit: str, at_least: bool = False) -> str:
    """One line with the target and whether it was met."""
    met = value >= target if at_least else value <= target
    return f"{name}: {value:.2f}{unit} (target {'>=' if at_least else '<='} {target:g}{unit}): {'Reached' if met else 'Missed'}"


def spread(values: Sequence[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"
