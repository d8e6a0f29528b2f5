"""A writer killed at any moment loses nothing it had reported and leaves nothing half-visible. benchmarks/store_kill.py runs 200."""

from __future__ import annotations

import uuid
from pathlib import Path

from seaweedfs import BUCKET, S3Server
from store_kill import kill_writers


def test_killed_writers_lose_nothing_in_a_folder(tmp_path: Path) -> None:
    report = kill_writers(f"file://{tmp_path}/store", {}, num_kills=4, seed=1)
    assert report.num_kills == 4 and report.num_reported > 0
    assert report.lost == [] and report.half_visible == []


def test_killed_writers_lose_nothing_in_s3(s3_server: S3Server) -> None:
    report = kill_writers(f"s3://{BUCKET}/{uuid.uuid4().hex}", s3_server.environment, num_kills=6, seed=2)
    assert report.num_kills == 6 and report.num_reported > 0
    assert report.lost == [] and report.half_visible == []
