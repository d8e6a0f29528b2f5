"""Does `kill -9` of a process that logs metrics lose or double a point? Kills loggers at random moments and counts on a real server."""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fixtures"))
from metric_kill import kill_loggers
from mlflow_server import running_mlflow

RESULTS = Path(__file__).parent / "results" / "tracking_kill.txt"


def main() -> None:
    """Every killed process leaves its spool to the next one, which delivers it to the same run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tracking_kill_") as folder:
        (Path(folder) / "server").mkdir()
        with running_mlflow(Path(folder) / "server") as uri:
            report = kill_loggers(uri, Path(folder) / "spool", options.kills, options.seed)
    text = (
        f"seed {options.seed}; mlflow {version('mlflow')} on SQLite, one worker\n"
        f"{report.num_kills} loggers killed; {report.num_logged} steps of two metrics had been logged when the kill came, "
        f"{report.num_readable} are readable (a step may be written and its report cut off by the kill)\n"
        f"lost {len(report.lost)}, duplicated {len(report.duplicated)}, half-visible {len(report.half)}, wrong value {len(report.wrong)}, "
        f"sessions left in the spool {report.left_in_spool}\n"
    )
    print(text)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text, encoding="utf-8")
    if not report.is_clean:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
