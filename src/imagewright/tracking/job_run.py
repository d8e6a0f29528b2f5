"""What a job sees of tracking: one small protocol, and the run that only validates when no server is configured.

Imports nothing heavy, so a cached step can load it; `open_job_run` imports MLflow only when a server is named.
"""

from __future__ import annotations

import math
import numbers
import os
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from imagewright.errors import InputError, Problem

# MLflow's own limits: a name outside them would be refused by the server long after the step that logged it.
NAME_PATTERN = re.compile(r"[\w\-. /:]{1,250}")
MAX_STEP = 2**63 - 1
MAX_EVENT_CHARS = 4000

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]


class TrackingError(InputError):
    """A name, step or value that no tracking server could store."""


class JobRun(Protocol):
    """The run of one job. Nothing here raises because a server is down, and nothing blocks a training step for long."""

    def log_metrics(self, metrics: Mapping[str, Any], step: int) -> None:
        """Logs numbers at `step`. Values that are not finite are stored as events. Raises TrackingError for a bad name or step."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Logs settings; nested mappings and lists are flattened to dotted keys."""

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Sets tags on the run."""

    def log_dataset(self, name: str, digest: str, uri: str, context: str) -> None:
        """Names a dataset the job read: `digest` is its payload SHA-256 [64 hex], `context` its role (`training`, `evaluation`)."""

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Stores a small file (report, plot, table) with the run, below `folder`."""

    def log_event(self, name: str, step: int, detail: str) -> None:
        """Records something that happened and is not a number (`non_finite`, `checkpoint`, `rollback`)."""

    def close(self, status: RunStatus = "FINISHED", headline: Mapping[str, Any] | None = None, report: Path | None = None) -> None:
        """Ends the run; `headline` metrics and `report` also go to the pipeline's parent run."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None: ...


def check_name(kind: str, name: object) -> str:
    """Returns `name` if MLflow can store it. Raises TrackingError otherwise."""
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name) or posixpath.normpath(name) != name or name[0] in "/.":
        raise TrackingError(
            Problem(
                f"{kind} name", "must be 1 to 250 letters, digits or _ - . : / space, and no path tricks", name, "rename it like train/loss"
            )
        )
    return name


def check_step(step: object) -> int:
    """Returns `step` as an int in 0..2^63-1. Raises TrackingError otherwise."""
    if isinstance(step, bool) or not isinstance(step, numbers.Integral) or not 0 <= int(step) <= MAX_STEP:
        raise TrackingError(Problem("step", f"must be a whole number from 0 to {MAX_STEP}", step, "count steps from 0"))
    return int(step)


def split_metrics(metrics: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    """Splits into (finite numbers, text of the values that are not finite). Raises TrackingError for what is no number at all."""
    finite: dict[str, float] = {}
    odd: dict[str, str] = {}
    for name, value in metrics.items():
        check_name("metric", name)
        try:
            number = float(value)
        except OverflowError:
            odd[name] = "inf"
            continue
        except (TypeError, ValueError) as error:
            raise TrackingError(
                Problem(f"metric {name}", "must be one number", str(type(value).__name__), "reduce it, then log a float")
            ) from error
        if math.isfinite(number):
            finite[name] = number
        else:
            odd[name] = str(number)
    return finite, odd


class NullRun:
    """Validates as a real run does and stores nothing: unit tests, and single jobs without a tracking server."""

    def log_metrics(self, metrics: Mapping[str, Any], step: int) -> None:
        check_step(step)
        split_metrics(metrics)

    def log_params(self, params: Mapping[str, Any]) -> None:
        for name in params:
            check_name("param", name)

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        for name in tags:
            check_name("tag", name)

    def log_dataset(self, name: str, digest: str, uri: str, context: str) -> None:
        check_dataset(name, digest)

    def log_artifact(self, path: Path, folder: str = "") -> None:
        check_artifact(path, folder)

    def log_event(self, name: str, step: int, detail: str) -> None:
        check_name("event", name)
        check_step(step)

    def close(self, status: RunStatus = "FINISHED", headline: Mapping[str, Any] | None = None, report: Path | None = None) -> None:
        split_metrics(headline or {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.close()


def check_dataset(name: str, digest: str) -> None:
    """Raises TrackingError unless `digest` is a SHA-256 in hex and `name` can be stored."""
    check_name("dataset", name)
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise TrackingError(Problem(f"dataset {name}", "digest must be 64 hexadecimal digits", digest, "give the digest of its record"))


def check_artifact(path: Path, folder: str) -> None:
    """Raises TrackingError unless `path` exists and `folder` stays inside the run."""
    if folder:
        check_name("artifact folder", folder)
    if not path.exists():
        raise TrackingError(Problem("artifact", "file does not exist", str(path), "write it before logging it"))


def open_job_run(
    *,
    task: str,
    stage: str,
    spool: Path,
    config: Mapping[str, Any] | None = None,
    recipe: str = "",
    data_rev: str = "",
    git_commit: str = "",
    image: str | None = None,
    pipeline_run: str | None = None,
    tracking_uri: str | None = None,
) -> JobRun:
    """Opens the run of one job, or a NullRun when neither `tracking_uri` nor MLFLOW_TRACKING_URI names a server.

    task: the job's name in the pipeline. spool: a folder that survives the job being killed (`context.work / "tracking"`).
    config: the resolved sections the job reads; flattened to parameters. `image` and `pipeline_run` default to
    IMAGEWRIGHT_IMAGE and IMAGEWRIGHT_PIPELINE_RUN. A server that is down delays what is stored and never raises here.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "") if tracking_uri is None else tracking_uri
    if not uri:
        return NullRun()
    from imagewright.tracking.identity import JobIdentity
    from imagewright.tracking.runs import MlflowRun

    run_id = os.environ.get("IMAGEWRIGHT_PIPELINE_RUN", "") if pipeline_run is None else pipeline_run
    identity = JobIdentity(
        task=check_name("task", task),
        stage=stage,
        recipe=recipe,
        data_rev=data_rev,
        git_commit=git_commit,
        image=os.environ.get("IMAGEWRIGHT_IMAGE", "") if image is None else image,
        pipeline_run=check_name("pipeline run", run_id) if run_id else "",
        injected_run=os.environ.get("MLFLOW_RUN_ID", ""),
    )
    return MlflowRun(uri, identity, spool, config or {})
