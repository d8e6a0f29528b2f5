"""What does a step cost besides its work: our cached and executed steps, and kfp.local's empty ones with and without a virtual environment?

Every arm runs under kfp's own subprocess runner, one process per pipeline, interleaved; the clock is around each task handler. Ours run
on a local stack (SeaweedFS and MLflow) as a person's do. Executed steps: the step's time less what its record says the job's body took.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "step_overhead.txt"
TARGET_SECONDS = 0.5
MAX_START_SECONDS = 2.5
CLOCK = """
import json, sys, time, kfp.local.subprocess_task_handler as handler
spent = []
plain = handler.SubprocessTaskHandler.run
def timed(self):
    begin = time.perf_counter()
    try:
        return plain(self)
    finally:
        spent.append(time.perf_counter() - begin)
handler.SubprocessTaskHandler.run = timed
"""
PEER = """
from kfp import dsl, local
@dsl.component(base_image="python:3.11", packages_to_install=[], install_kfp_package={use_venv})
def hand_on(number: int) -> int:
    return number + 1
@dsl.pipeline
def chain(number: int) -> int:
    for _ in range({steps}):
        number = hand_on(number=number).output
    return number
local.init(runner=local.SubprocessRunner(use_venv={use_venv}), pipeline_root={root!r}, raise_on_error=True)
chain(number=0)
"""
OURS = """
from pathlib import Path
from imagewright.launch.local_runner import main
main({folder!r})
"""
SAY = "\nprint('SPENT ' + json.dumps(spent))\n"


def run_timed(source: str, environ: dict[str, str]) -> list[float]:
    """Seconds of each task of a pipeline that runs in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", CLOCK + source + SAY], env=environ, capture_output=True, text=True, timeout=1800, check=False
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("SPENT ")]
    assert done.returncode == 0 and said, done.stdout[-2000:] + done.stderr[-2000:]
    seconds: list[float] = json.loads(said[-1].removeprefix("SPENT "))
    return seconds


def peer(use_venv: bool, steps: int, environ: dict[str, str]) -> list[float]:
    """kfp.local: a chain of empty components."""
    with tempfile.TemporaryDirectory(prefix="step_overhead_") as root:
        path = Path(root) / "chain.py"  # kfp reads the source of its components from a file
        path.write_text(PEER.format(steps=steps, use_venv=use_venv, root=root), encoding="utf-8")
        return run_timed(f"import runpy\nrunpy.run_path({str(path)!r})", environ)


def ours(
    home: Path, pipeline: str, recipe: str, stack: dict[str, str], environ: dict[str, str]
) -> tuple[list[float], list[dict[str, float]]]:
    """Seconds of each step of one of our pipelines, and each step's state in the same order."""
    from imagewright.config import load_recipe
    from imagewright.launch import local
    from imagewright.launch.pipelines import compile_pipeline

    config = load_recipe(recipe)
    folder = local.create(home, compile_pipeline(pipeline, config), config)
    environment = {
        **environ,
        **stack,
        "IMAGEWRIGHT_PIPELINE_RUN": folder.run_id,
        "IMAGEWRIGHT_RUN_FOLDER": str(folder.path),
        "IMAGEWRIGHT_WORK": str(home / "work"),
        "IMAGEWRIGHT_GIT_COMMIT": "benchmark",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}",
    }
    seconds = run_timed(OURS.format(folder=str(folder.path)), environment)
    steps = sorted(folder.steps().values(), key=lambda step: step["started"])
    assert len(steps) == len(seconds) and all(step["status"] in {"done", "cached"} for step in steps), folder.log_path.read_text()[-2000:]
    return seconds, steps


def bodies(steps: list[dict[str, float]], store_url: str, environ: dict[str, str]) -> list[float]:
    """Seconds the body of each step took, from its record."""
    from imagewright.storage import store_from_environment
    from imagewright.storage.records import parse_record

    store = store_from_environment({**environ, "IMAGEWRIGHT_STORE_URL": store_url})
    found = []
    for step in steps:
        entry = store.get_named(f"actions/{step['key']}.json")
        assert entry is not None
        found.append(parse_record(entry.data, "the step's record").wall_seconds)
    return found


def measure(options: argparse.Namespace, home: Path) -> dict[str, list[float]]:
    """Seconds of single steps, by arm."""
    from imagewright import stack

    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environ["OMP_NUM_THREADS"] = "1"
    stack.start(home)
    served = stack.environment(home)
    os.environ.update(served)
    arms: dict[str, list[float]] = {"executed": [], "cached": [], "kfp.local": [], "kfp.local, venv": []}
    first, steps = ours(home, options.pipeline, options.recipe, served, environ)
    if any(step["status"] == "done" for step in steps):
        worked = [(spent, step) for spent, step in zip(first, steps, strict=True) if step["status"] == "done" and step["key"]]
        took = bodies([step for _, step in worked], served["IMAGEWRIGHT_STORE_URL"], {**environ, **served})
        arms["executed"] = [spent - body for (spent, _), body in zip(worked, took, strict=True)]
    for number in range(options.rounds):
        seconds, steps = ours(home, options.pipeline, options.recipe, served, environ)
        arms["cached"] += [spent for spent, step in zip(seconds, steps, strict=True) if step["status"] == "cached"]
        arms["kfp.local"] += peer(False, options.peer_steps, environ)
        if number < options.venv_rounds:
            arms["kfp.local, venv"] += peer(True, 1, environ)
    return arms


def report(arms: dict[str, list[float]], options: argparse.Namespace) -> str:
    """The table, and whether the targets hold."""
    command = f"python benchmarks/step_overhead.py --pipeline {options.pipeline} --recipe {options.recipe} --rounds {options.rounds}"
    lines = [
        f"command: {command}",
        f"machine: {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}",
        f"peer: kfp {version('kfp')}, SubprocessRunner, empty steps; a virtual environment installs kfp, as is its default; interleaved",
        f"{'arm':18}{'steps':>7}{'median s':>10}{'worst s':>10}",
    ]
    medians = {name: statistics.median(values) for name, values in arms.items() if values}
    for name, values in arms.items():
        if values:
            lines.append(f"{name:18}{len(values):7}{medians[name]:10.3f}{max(values):10.3f}")
    if "executed" in medians:
        started = "Reached" if medians["executed"] <= MAX_START_SECONDS else "Missed"
        lines.append(f"executed steps cost {medians['executed']:.2f} s besides their body (target {MAX_START_SECONDS} s: {started})")
    lines.append(f"a cached step against an empty kfp.local step: {medians['cached'] / medians['kfp.local']:.2f} times its time")
    if "kfp.local, venv" in medians:
        ratio = medians["kfp.local, venv"] / medians["cached"]
        lines.append(f"an empty kfp.local step with a virtual environment of its own: {ratio:.1f} times a cached step")
    reached = "Reached" if medians["cached"] < TARGET_SECONDS else "Missed"
    lines.append(f"cached step, median: {medians['cached']:.3f} s (target under {TARGET_SECONDS} s: {reached})")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs every arm and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pipeline", default="data_curation")
    parser.add_argument("--recipe", default="debug")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds of the cached pipeline and of kfp.local")
    parser.add_argument("--peer-steps", type=int, default=4, help="empty steps of kfp.local a round")
    parser.add_argument(
        "--venv-rounds", type=int, default=1, help="rounds with a virtual environment for each task; each installs packages"
    )
    parser.add_argument("--home", type=Path, default=None, help="a home whose runs are done already; a temporary one when left out")
    options = parser.parse_args()
    from imagewright import stack

    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="step_overhead_") as scratch:
        home = (options.home or Path(scratch) / "home").resolve()
        try:
            arms = measure(options, home)
        finally:
            stack.stop(home)
    text = report(arms, options) + f"took {time.monotonic() - started:.0f} s\n"
    print(text, end="")
    RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
