"""`imagewright demo`: raw pool to promoted model, report, server and a first image, on this machine."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from imagewright.cli import run
from imagewright.cli.config import Overrides, Recipe
from imagewright.errors import InputError, Problem
from imagewright.launch.local import INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

READY_SECONDS = 120.0
PROMPT = "a red circle left of a blue square"


def demo(
    recipe: Recipe = "demo",
    overrides: Overrides = None,
    model: Annotated[str, typer.Option("--model", help="Lineage whose champion draws the first image; default: the one just judged.")] = "",
    prompt: Annotated[str, typer.Option("--prompt", help="What to draw.")] = PROMPT,
) -> None:
    """Run the whole platform once: stack, end_to_end pipeline, promotion, server, image. Started again, it continues where it stopped."""
    console = Console()
    try:
        show(console, recipe, overrides, model, prompt)
    except KeyboardInterrupt as error:
        console.print("interrupted; everything finished stays. The same command continues.", highlight=False)
        raise typer.Exit(INTERRUPTED) from error


def show(console: Console, recipe: str, overrides: list[str] | None, model: str, prompt: str) -> None:
    """The steps of the demo, and what it made."""
    started = time.monotonic()
    environment = run.job_environment(console)
    run.run("end_to_end", recipe=recipe, overrides=overrides, name="")
    model = model or judged_lineage()
    image = run.home_folder() / "demo.png"
    with server(model, {**os.environ, **environment}, console) as url:
        draw(url, model, prompt, image)
    lines = [
        f"image:   {image}  ({prompt})",
        f"report:  {newest_report()}",
        f"MLflow:  {environment.get('MLFLOW_TRACKING_URI', os.environ.get('MLFLOW_TRACKING_URI', ''))}",
        f"serve:   imagewright serve {model}",
        f"done in {time.monotonic() - started:.0f} s",
    ]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def newest_report() -> Path:
    """Report of the newest run."""
    from imagewright.launch.runs import find_run

    return find_run(run.home_folder(), "latest").report_path


def judged_lineage() -> str:
    """Lineage of the model the newest run promoted or refused: `turbo` of `turbo@3`."""
    from imagewright.launch.runs import find_run

    step = find_run(run.home_folder(), "latest").steps().get("promote-model", {})
    return str(step.get("revision", "")).partition("@")[0] or "turbo"


@contextmanager
def server(model: str, environment: Mapping[str, str], console: Console) -> Iterator[str]:
    """Starts `imagewright serve` on a free port, waits until it is ready, and stops it at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log_path = run.home_folder() / "server.log"
    command = [sys.executable, "-m", "imagewright.cli.main", "serve", model, "--port", str(port)]
    with log_path.open("wb") as log, console.status("starting the server"):
        process = subprocess.Popen(command, env=dict(environment), stdout=log, stderr=subprocess.STDOUT)
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, process, log_path)
    try:
        yield url
    finally:
        process.terminate()
        process.wait()


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Polls readiness. Raises InputError with the end of the log when the server ends or stays silent."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/ready", timeout=5) as answer:  # noqa: S310 - our own loopback address
                if json.load(answer).get("model"):
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    process.kill()
    said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] or ["nothing"]
    raise InputError(Problem("server", f"did not become ready; it said: {said[0]}", str(log), "imagewright serve shows the whole message"))


def draw(url: str, model: str, prompt: str, path: Path) -> None:
    """One image through the official OpenAI client."""
    from openai import OpenAI

    client = OpenAI(base_url=f"{url}/v1", api_key="local", timeout=READY_SECONDS)
    answer = client.images.generate(model=model, prompt=prompt, extra_body={"seed": 0})
    assert answer.data, "the server answered without an image"
    path.write_bytes(base64.b64decode(answer.data[0].b64_json or ""))
