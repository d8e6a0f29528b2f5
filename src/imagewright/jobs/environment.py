"""The env contract: endpoints, secrets and identity reach a job through these variables and nothing else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

GIT_SECONDS = 5
CONTRACT = (
    "IMAGEWRIGHT_STORE_URL",
    "IMAGEWRIGHT_REGISTRY_URL",
    "IMAGEWRIGHT_PIPELINE_RUN",
    "IMAGEWRIGHT_IMAGE",
    "IMAGEWRIGHT_GIT_COMMIT",
    "IMAGEWRIGHT_WORK",
    "IMAGEWRIGHT_RUN_FOLDER",
    "IMAGEWRIGHT_RECEIPT",
    "IMAGEWRIGHT_FORCE_JOBS",
    "IMAGEWRIGHT_REQUIRE_CACHED",
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_REQUEST_CHECKSUM_CALCULATION",
    "AWS_RESPONSE_CHECKSUM_VALIDATION",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_S3_ENDPOINT_URL",
    "MLFLOW_RUN_ID",
)


@dataclass(frozen=True)
class JobEnvironment:
    """What a job learns from its environment, besides the endpoints its libraries read themselves."""

    pipeline_run: str
    image_digest: str
    git_commit: str
    work_root: Path
    run_folder: Path | None
    """Folder of the local pipeline run; each job writes its live state there."""
    force_jobs: frozenset[str]
    """Jobs that run again whatever the store holds, and replace their action entries (`--from`)."""
    require_cached: frozenset[str]
    """Jobs that must find an earlier result (everything before `--from`)."""
    registry_url: str = ""
    """Data registry that datasets are committed to; empty commits nothing."""


def read_environment(environ: Mapping[str, str] = os.environ) -> JobEnvironment:
    """Reads the contract; everything is optional, so that a single job can be run by hand."""
    run_folder = environ.get("IMAGEWRIGHT_RUN_FOLDER", "")
    return JobEnvironment(
        pipeline_run=environ.get("IMAGEWRIGHT_PIPELINE_RUN", ""),
        image_digest=environ.get("IMAGEWRIGHT_IMAGE", ""),
        git_commit=environ.get("IMAGEWRIGHT_GIT_COMMIT", "") or git_commit(),
        work_root=Path(environ.get("IMAGEWRIGHT_WORK", "") or ".imagewright/work").resolve(),
        run_folder=Path(run_folder) if run_folder else None,
        force_jobs=names(environ.get("IMAGEWRIGHT_FORCE_JOBS", "")),
        require_cached=names(environ.get("IMAGEWRIGHT_REQUIRE_CACHED", "")),
        registry_url=environ.get("IMAGEWRIGHT_REGISTRY_URL", ""),
    )


def names(text: str) -> frozenset[str]:
    """Splits a comma-separated list of job names."""
    return frozenset(name for name in text.split(",") if name)


def git_commit() -> str:
    """Commit of the checkout this code runs from, with `-dirty` when it differs; empty outside a checkout."""
    folder = Path(__file__).resolve().parent
    try:
        described = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return described.stdout.strip() if described.returncode == 0 else ""
