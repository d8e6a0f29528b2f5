"""How many metric points a second become readable: our spool, a plain `mlflow.log_metric` loop, and MLflow's asynchronous logging.

One point a call, the same number of points for all, on one server, interleaved; a point counts when it can be read back.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import mlflow
from mlflow import MlflowClient

from imagewright.tracking.identity import JobIdentity
from imagewright.tracking.runs import MlflowRun

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fixtures"))
from mlflow_server import running_mlflow

RESULTS = Path(__file__).parent / "results" / "metric_logging.txt"
METRIC = "train/loss"
TARGETS = {"plain loop": 50, "asynchronous": 20}


@dataclass(frozen=True)
class Measurement:
    """seconds: from the first call until everything is delivered. blocked_seconds: the caller's share. worst: the longest call."""

    seconds: float
    blocked_seconds: float
    worst_seconds: float
    num_readable: int


def time_calls(log: Callable[[int], None], num_points: int) -> tuple[float, float]:
    """(total, longest) seconds of the calls."""
    longest, begin = 0.0, time.perf_counter()
    for step in range(num_points):
        started = time.perf_counter()
        log(step)
        longest = max(longest, time.perf_counter() - started)
    return time.perf_counter() - begin, longest


def measure_plain(client: MlflowClient, num_points: int, folder: Path) -> Measurement:
    """`mlflow.log_metric` once a step."""
    with mlflow.start_run() as run:
        begin = time.perf_counter()
        blocked, longest = time_calls(lambda step: mlflow.log_metric(METRIC, step / 3, step=step), num_points)
        seconds = time.perf_counter() - begin
    return Measurement(seconds, blocked, longest, count(client, run.info.run_id))


def measure_asynchronous(client: MlflowClient, num_points: int, folder: Path) -> Measurement:
    """`mlflow.log_metric(..., synchronous=False)` once a step, then MLflow's own flush."""
    with mlflow.start_run() as run:
        begin = time.perf_counter()
        blocked, longest = time_calls(lambda step: mlflow.log_metric(METRIC, step / 3, step=step, synchronous=False), num_points)
        mlflow.flush_async_logging()
        seconds = time.perf_counter() - begin
    return Measurement(seconds, blocked, longest, count(client, run.info.run_id))


def measure_spool(client: MlflowClient, num_points: int, folder: Path) -> Measurement:
    """`log_metrics` once a step through the spool; the run is bound to the server before the clock starts, as the peers' runs are."""
    identity = JobIdentity(task="spool", pipeline_run=uuid.uuid4().hex)
    run = MlflowRun(client.tracking_uri, identity, folder / identity.pipeline_run, {}, system_seconds=0, drain_seconds=600)
    while not (bound := list((folder / identity.pipeline_run).glob("*/bound.json"))):
        time.sleep(0.01)
    time.sleep(1.5)  # what opening logs (tags of the parent) is sent before the clock starts
    assert bound
    begin = time.perf_counter()
    blocked, longest = time_calls(lambda step: run.log_metrics({METRIC: step / 3}, step), num_points)
    run.close()
    seconds = time.perf_counter() - begin
    experiment = client.get_experiment_by_name("imagewright")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id], f"tags.`pipeline_run` = '{identity.pipeline_run}' and tags.`role` = 'job'")
    return Measurement(seconds, blocked, longest, count(client, found.info.run_id))


def count(client: MlflowClient, run: str) -> int:
    """Different steps readable on the server."""
    return len({point.step for point in client.get_metric_history(run, METRIC)})


SIDES = {"plain loop": measure_plain, "asynchronous": measure_asynchronous, "spool": measure_spool, "spool, long": measure_spool}
LONG = 10  # the last side logs ten times the points: opening and closing weigh less, as in a real training run


def main() -> None:
    """Runs all sides in turn and prints medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    results: dict[str, list[Measurement]] = {name: [] for name in SIDES}
    with tempfile.TemporaryDirectory(prefix="metric_logging_") as name:
        folder = Path(name)
        (folder / "server").mkdir()
        with running_mlflow(folder / "server") as uri:
            mlflow.set_tracking_uri(uri)
            mlflow.set_experiment("peers")
            for _ in range(options.rounds):
                for side, measure in SIDES.items():
                    num_points = options.points * (LONG if side == "spool, long" else 1)
                    results[side].append(measure(MlflowClient(uri), num_points, folder))
                    print(side, results[side][-1], flush=True)
    text = report(results, options.points, options.rounds)
    print(text)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text, encoding="utf-8")


def report(results: dict[str, list[Measurement]], num_points: int, num_rounds: int) -> str:
    """The table: medians over rounds, ratios of points a second, each target said to be met or missed."""
    counts = {side: num_points * (LONG if side == "spool, long" else 1) for side in results}
    rates = {side: statistics.median(counts[side] / run.seconds for run in runs) for side, runs in results.items()}
    lines = [
        f"{platform.machine()}, {os.cpu_count()} CPU cores shared with other work, load {os.getloadavg()[0]:.1f}",
        f"mlflow {version('mlflow')} on SQLite, one worker; one point a call; medians of {num_rounds} interleaved rounds",
        f"{'side':14}{'points':>8}{'points/s':>10}{'ms a point in the caller':>26}{'longest call ms':>17}{'readable':>20}",
    ]
    for side, runs in results.items():
        blocked = statistics.median(run.blocked_seconds for run in runs) / counts[side] * 1000
        longest = max(run.worst_seconds for run in runs) * 1000
        readable = "/".join(str(run.num_readable) for run in runs)
        lines.append(f"{side:14}{counts[side]:8}{rates[side]:10.1f}{blocked:26.3f}{longest:17.1f}{readable:>20}")
    for ours in ("spool", "spool, long"):
        for side, target in TARGETS.items():
            ratio = rates[ours] / rates[side]
            lines.append(f"{ours}: {ratio:.1f} times {side} (target {target}: {'met' if ratio >= target else 'MISSED'})")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
