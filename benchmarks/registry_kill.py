"""Does a registry commit survive SIGKILL at any moment? Counts what 200 kills of two committers lost, halved or doubled."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from fixtures.killed_commits import kill_commits


def main() -> int:
    """Prints the tally; the exit status is 1 when there was any fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--committers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    git = subprocess.run(["git", "--version"], check=True, capture_output=True, text=True).stdout.strip()
    print(f"machine: {os.cpu_count()} CPU cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}, {git}")
    print(f"SIGKILL at random moments; {arguments.committers} committers on one dataset, local bare repository, seed {arguments.seed}")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        tally = kill_commits(Path(folder), arguments.kills, seed=arguments.seed, num_committers=arguments.committers)
    print(f"kills: {tally.num_kills}, of which with all git processes of the commit: {tally.num_whole_tree}")
    print(f"revisions: {tally.num_revisions}, of which returned to a committer that lived to write it down: {tally.num_returned}")
    print(f"lost: {tally.num_lost}  half-visible: {tally.num_half_visible}  duplicated: {tally.num_duplicated}")
    print(f"wall time: {time.monotonic() - started:.0f} s")
    return int(bool(tally.num_lost or tally.num_half_visible or tally.num_duplicated))


if __name__ == "__main__":
    sys.exit(main())
