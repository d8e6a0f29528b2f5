"""What does it cost a job to commit its payload to the data registry? Against DVC and git doing the same by hand.

Both sides start from a folder of shards that is new in every round: ours stores it and commits it as the frame of a job does, in the
job's process; the peer runs `dvc add`, `dvc push`, `git commit`, `git tag` and `git push`, as a person does. Interleaved; both remotes
are folders. CPU seconds count child processes, so that they mean something on a busy machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "registry_commit.txt"
NAMES = ("GIT_AUTHOR", "GIT_COMMITTER")
DVC = (sys.executable, "-m", "dvc")


def write_payload(folder: Path, num_files: int, draw: random.Random) -> None:
    """Shards of 200 kB, all bytes new."""
    folder.mkdir(exist_ok=True)
    for number in range(num_files):
        (folder / f"shard-{number:05d}.tar").write_bytes(draw.randbytes(200_000))


def clocked(work: Callable[[], None]) -> tuple[float, float]:
    """Wall and CPU seconds of some work, its child processes included."""

    def cpu() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in used)

    wall, spent = time.perf_counter(), cpu()
    work()
    return time.perf_counter() - wall, cpu() - spent


class Peer:
    """A person's clone with DVC, and the bare repository it is pushed to."""

    def __init__(self, folder: Path) -> None:
        self.clone, self.round = folder / "clone", 0
        folders = ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR", "DVC_SITE_CACHE_DIR")
        self.environ = {**os.environ, "DVC_NO_ANALYTICS": "1", **dict.fromkeys(folders, str(folder / "settings"))}
        self.environ |= {f"{name}_{part}": value for name in NAMES for part, value in (("NAME", "Ada"), ("EMAIL", "ada@example.com"))}
        subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(folder / "bare.git")], check=True)
        subprocess.run(["git", "clone", "--quiet", str(folder / "bare.git"), str(self.clone)], check=True, stderr=subprocess.DEVNULL)
        self.run("git", "checkout", "--quiet", "-b", "main")
        self.run(*DVC, "init", "--quiet")
        self.run(*DVC, "remote", "add", "--quiet", "--default", "store", str(folder / "remote"))

    def run(self, *command: str) -> None:
        subprocess.run(command, cwd=self.clone, env=self.environ, check=True, stdout=subprocess.DEVNULL)

    def commit(self) -> None:
        """What a person types."""
        self.round += 1
        self.run(*DVC, "add", "--quiet", "raw")
        self.run(*DVC, "push", "--quiet")
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "ingest-raw")
        self.run("git", "tag", f"raw@v{self.round}")
        self.run("git", "push", "--quiet", "--atomic", "origin", "main", f"raw@v{self.round}")


def main() -> None:
    """Interleaves both sides and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    from imagewright.jobs.dataset_revision import DatasetCommit
    from imagewright.jobs.environment import read_environment
    from imagewright.jobs.job import load_job
    from imagewright.registry import DataRegistry, create_repository
    from imagewright.storage import open_store
    from imagewright.storage.records import Record

    draw = random.Random(options.seed)
    sides: dict[str, list[tuple[float, float]]] = {"put_folder": [], "commit": [], "commit again": [], "dvc + git": []}
    with tempfile.TemporaryDirectory(prefix="registry_commit_") as name:
        folder = Path(name)
        (folder / "peer").mkdir()
        store, peer = open_store(f"file://{folder}/store"), Peer(folder / "peer")
        url = create_repository(folder / "registry.git")
        environment = read_environment({"IMAGEWRIGHT_REGISTRY_URL": str(url), "IMAGEWRIGHT_GIT_COMMIT": "benchmark"})
        commit = DatasetCommit(load_job("ingest-raw")[0], "debug", {}, environment, store)
        for _ in range(options.rounds):
            write_payload(folder / "payload", options.files, draw)
            digests: list[str] = []
            sides["put_folder"].append(clocked(lambda to=digests: to.append(store.put_folder(folder / "payload", dvc_layout=True))))  # type: ignore[misc]
            record = Record(job="ingest-raw", kind="dataset", digest=digests[0])
            for side in ("commit", "commit again"):
                sides[side].append(clocked(lambda made=record: commit.revised(made)))  # type: ignore[misc]
            write_payload(peer.clone / "raw", options.files, draw)
            sides["dvc + git"].append(clocked(peer.commit))
        assert len(DataRegistry(url, store).revisions()) == options.rounds
    medians = {side: [statistics.median(part) for part in zip(*runs, strict=True)] for side, runs in sides.items()}
    ours = [a + b for a, b in zip(medians["put_folder"], medians["commit"], strict=True)]
    peers = medians["dvc + git"]
    lines = [
        f"command: python benchmarks/registry_commit.py --rounds {options.rounds} --files {options.files} --seed {options.seed}",
        f"machine: {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}",
        f"peer: dvc {version('dvc')} with git; payload: {options.files} files of 200 kB, new in each round; medians",
        f"{'what':14}{'wall s':>9}{'CPU s':>9}",
        *(f"{side:14}{wall:9.3f}{cpu:9.3f}" for side, (wall, cpu) in medians.items()),
        f"storing and committing against dvc and git: {peers[0] / ours[0]:.1f} times as fast, {peers[1] / ours[1]:.1f} times less CPU",
    ]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
