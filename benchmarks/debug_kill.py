"""Does a killed pipeline run lose or repeat anything? The `debug` graph, its runner or single jobs killed at random moments and continued.

nice -n 15 python benchmarks/debug_kill.py --kills 20 --seed 0

A witness inside every job's process counts: it logs each start and end of a body (the product's own frame, wrapped at import) and holds a
kernel lock on the action key meanwhile, so a second writer of one key cannot stay unseen. A finished job is one whose action entry lies in
the store. Kills fall on one run as long as it lasts; a run that ends before they are used up is followed by one with the next seed.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results" / "debug_kill.txt"
COMMAND = [sys.executable, "-m", "imagewright.cli.main"]
FROM_START = 0.25
"""Share of the kills that may fall on start-up and cached steps; the others wait until a body runs."""
PATIENCE_SECONDS = 7200.0
WITNESS = """
import fcntl, importlib.abc, importlib.machinery, json, os, sys, time

FOLDER = os.environ.get("DEBUG_KILL_WITNESS", "")

def say(**facts):
    line = json.dumps({"pid": os.getpid(), "time": time.monotonic(), **facts}) + "\\n"
    descriptor = os.open(FOLDER + "/bodies.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, line.encode())
    os.close(descriptor)

def watch(frame):
    body = frame.Frame.run_body
    def run_body(self, lease=None):
        lock = os.open(FOLDER + "/" + (self.key or self.job.name) + ".lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock's, not inherited by processes that the body forks
        except BlockingIOError:
            say(event="second writer", job=self.job.name, key=self.key)
        say(event="start", job=self.job.name, key=self.key, threads=self.config.threads)
        try:
            result = body(self, lease)
        finally:
            os.close(lock)  # a body that was interrupted writes no more, though its process may take seconds to end
        say(event="end", job=self.job.name, key=self.key)
        return result
    frame.Frame.run_body = run_body

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "imagewright.jobs.frame":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module
        def exec_module(module):
            execute(module)
            watch(module)
        spec.loader.exec_module = exec_module
        return spec

if FOLDER:
    sys.meta_path.insert(0, Finder())
"""


@dataclass
class Home:
    """An empty home with a local stack of its own, the witness, and what is known about finished jobs."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)
    finished: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    """Action entries seen so far, by key, and when."""
    rewritten: set[str] = field(default_factory=set)
    """Entries whose bytes changed after they were first seen."""

    def __post_init__(self) -> None:
        witness = self.folder / "witness"
        witness.mkdir(parents=True)
        (witness / "sitecustomize.py").write_text(WITNESS, encoding="utf-8")
        path = os.pathsep.join(filter(None, [str(witness), os.environ.get("PYTHONPATH", "")]))
        own = {"IMAGEWRIGHT_HOME": str(self.folder), "PYTHONPATH": path, "DEBUG_KILL_WITNESS": str(witness), "COLUMNS": "160"}
        self.environ = {**os.environ, **own}
        for name in ("IMAGEWRIGHT_STORE_URL", "IMAGEWRIGHT_REGISTRY_URL", "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL"):
            self.environ.pop(name, None)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Starts the command line."""
        log = (self.folder / "commands.log").open("ab")
        return subprocess.Popen([*COMMAND, *arguments], env=self.environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def call(self, *arguments: str) -> None:
        """Runs the command line to its end."""
        code = self.start(*arguments).wait()
        assert code == 0, f"{arguments} ended with {code}; see {self.folder}/commands.log"

    def bodies(self) -> list[dict[str, Any]]:
        """What the witness wrote so far."""
        path = self.folder / "witness" / "bodies.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def running(self) -> list[dict[str, Any]]:
        """Bodies that started, have not ended, and whose process lives."""
        open_ones: dict[tuple[int, str], dict[str, Any]] = {}
        for one in self.bodies():
            if one["event"] == "start":
                open_ones[one["pid"], one["job"]] = one
            elif one["event"] == "end":
                open_ones.pop((one["pid"], one["job"]), None)
        return [one for one in open_ones.values() if psutil.pid_exists(one["pid"])]

    def look(self) -> dict[str, Any]:
        """Reads every action entry; remembers new ones, and those that changed. Returns the records by job."""
        from imagewright import stack
        from imagewright.storage import store_from_environment
        from imagewright.storage.records import parse_record

        store = store_from_environment(stack.environment(self.folder))
        records = {}
        for name in store.list_named("actions/"):
            found = store.get_named(name)
            assert found is not None
            record = parse_record(found.data, name)
            if self.finished.setdefault(record.action_key, (found.data, time.monotonic()))[0] != found.data:
                self.rewritten.add(name)
            records[record.job] = record
        return records

    def steps(self, run: str) -> dict[str, dict[str, Any]]:
        """The state of every step of a run."""
        return {path.stem: json.loads(path.read_text()) for path in (self.folder / "runs" / run / "steps").glob("*.json")}


def wait_until(found: Callable[[], bool], process: subprocess.Popen[bytes]) -> bool:
    """True once `found()` holds; False when the process ended first."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not found():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline, "nothing happens"
        time.sleep(0.05)
    return True


def runner_pid(home: Home, run: str) -> int:
    """Pid of the living runner of a run; 0 when there is none."""
    path = home.folder / "runs" / run / "state.json"
    state = json.loads(path.read_text()) if path.exists() else {}
    pid = int(state.get("pid") or 0)
    try:
        alive = pid and state.get("state") == "running" and str(home.folder) in " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        alive = False
    return pid if alive else 0


def kill_once(home: Home, run: str, process: subprocess.Popen[bytes], draw: random.Random, spread: float) -> str:
    """Waits for a random moment and kills the runner or a job; says which, or nothing when the run ended first."""
    victim = draw.choice(("runner", "job"))
    from_start, delay = draw.random() < FROM_START, draw.uniform(0.0, spread)
    if not wait_until(lambda: runner_pid(home, run) > 0, process):
        return ""
    num_before = len([one for one in home.bodies() if one["event"] == "start"])
    if not from_start and not wait_until(lambda: len([one for one in home.bodies() if one["event"] == "start"]) > num_before, process):
        return ""
    moment = time.monotonic() + delay
    if not wait_until(lambda: time.monotonic() >= moment, process):
        return ""
    bodies = home.running()
    if victim == "job" and bodies:
        pid, what = draw.choice([(one["pid"], f"job {one['job']}") for one in bodies])
    else:
        pid, what = runner_pid(home, run), f"runner, during {bodies[-1]['job'] if bodies else 'start-up or a cached step'}"
    try:
        if pid:
            os.kill(pid, signal.SIGKILL)
            return what
    except ProcessLookupError:  # it ended by itself in this very moment
        pass
    return "" if process.poll() is not None else kill_once(home, run, process, draw, spread)


def kill_and_continue(home: Home, options: argparse.Namespace, say: Callable[[str], None]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """All kills, and the records of every run by job."""
    draw = random.Random(options.seed)
    kills: list[str] = []
    runs: dict[str, dict[str, Any]] = {}
    while len(kills) < options.kills or not runs:
        run = f"killed-{len(runs)}"
        process = home.start("run", "end_to_end", "--name", run, "--set", f"seed={len(runs)}", "--set", f"threads={options.threads}")
        while len(kills) < options.kills:
            killed = kill_once(home, run, process, draw, options.spread)
            if not killed:
                break
            kills.append(killed)
            say(f"kill {len(kills)}: {killed}")
            process.wait()
            home.look()
            process = home.start("resume", run)
        assert process.wait() == 0, (home.folder / "runs" / run / "state.json").read_text()
        made = home.look()
        runs[run] = {job: made[job] for job in home.steps(run) if job in made}
        say(f"{run} finished after {len(kills)} kills")
    return kills, runs


def judge(home: Home) -> dict[str, Any]:
    """Counts over the whole life of a home."""
    bodies = [one for one in home.bodies() if one["event"] == "start" and one["key"]]  # promote and report have no key and always run
    starts = collections.Counter(one["key"] for one in bodies)
    again = sum(one["key"] in home.finished and home.finished[one["key"]][1] < one["time"] for one in bodies)
    return {
        "keys": len(starts),
        "starts": sum(starts.values()),
        "again": again,
        "second": sum(one["event"] == "second writer" for one in home.bodies()),
        "rewritten": len(home.rewritten),
        "threads": sorted({one["threads"] for one in home.bodies() if one["event"] == "start"}),
        "unfinished": len(starts.keys() - home.finished.keys()),
    }


def compare(killed: dict[str, Any], undisturbed: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Jobs with the same payload, and with another one, in two runs of one configuration."""
    shared = sorted(name for name in killed.keys() & undisturbed.keys() if killed[name].action_key)
    same = [name for name in shared if killed[name].digest == undisturbed[name].digest]
    return same, [name for name in shared if name not in same]


def main() -> None:
    """Runs, judges, writes the result; exits with 1 when something was lost, repeated or written twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--spread", type=float, default=20.0, help="a kill falls within this many seconds of its occasion")
    parser.add_argument("--skip-reference", action="store_true", help="do not run the undisturbed graph to compare payloads with")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:7.0f} s {text}", flush=True)

    scratch = Path(tempfile.mkdtemp(prefix="debug_kill_"))
    homes = [Home(scratch / "killed")]
    try:
        kills, runs = kill_and_continue(homes[0], options, say)
        counts = judge(homes[0])
        compared = None
        if not options.skip_reference:
            homes.append(Home(scratch / "undisturbed"))
            homes[1].call("run", "end_to_end", "--name", "whole", "--set", "seed=0", "--set", f"threads={options.threads}")
            compared = compare(runs["killed-0"], homes[1].look())
    finally:
        for home in homes:
            home.start("down").wait()
    text = report(options, kills, runs, counts, compared) + f"took {time.monotonic() - started:.0f} s\n"
    print(text, end="")
    RESULTS.write_text(text, encoding="utf-8")
    shutil.rmtree(scratch, ignore_errors=True)
    sys.exit(bool(counts["again"] or counts["second"] or counts["rewritten"] or counts["unfinished"] or (compared and compared[1])))


def report(
    options: argparse.Namespace,
    kills: list[str],
    runs: dict[str, dict[str, Any]],
    counts: dict[str, Any],
    compared: tuple[list[str], list[str]] | None,
) -> str:
    """The result in words."""
    runner = sum(kill.startswith("runner") for kill in kills)
    flags = f"--kills {options.kills} --seed {options.seed} --threads {options.threads} --spread {options.spread:g}"
    lines = [
        f"command: python benchmarks/debug_kill.py {flags}{' --skip-reference' if options.skip_reference else ''}",
        f"machine: {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}",
        f"graph: end_to_end, recipe debug, threads {', '.join(map(str, counts['threads']))}; {len(runs)} runs, all finished",
        f"kill -9: {len(kills)} ({runner} of the runner, {len(kills) - runner} of a single job)",
        *(f"  {number}. {kill}" for number, kill in enumerate(kills, start=1)),
        f"action keys: {counts['keys']}; bodies started: {counts['starts']}, of which {counts['starts'] - counts['keys']} after a kill",
        f"finished jobs that ran again: {counts['again']}; action entries that changed: {counts['rewritten']} (target 0)",
        f"keys with two writers at a time: {counts['second']} (target 0)",
        f"keys without a result in the end: {counts['unfinished']} (target 0)",
    ]
    if compared is None:
        lines.append("payloads were not compared with an undisturbed run")
    else:
        same, other = compared
        lines.append(f"payloads equal to an undisturbed run's: {len(same)} of {len(same) + len(other)} jobs ({', '.join(same)})")
        lines += [f"payloads that differ: {', '.join(other)}"] if other else []
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
