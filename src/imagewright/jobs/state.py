"""The live state of one step, as a small file in the run's folder: what the progress table and `imagewright status` read."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from imagewright.storage.records import Record

StepStatus = Literal["waiting", "running", "cached", "done", "failed"]
MAX_DETAIL_CHARS = 2000


class StepState:
    """Writes `steps/<job>.json`; does nothing when the job runs outside a local pipeline run."""

    def __init__(self, run_folder: Path | None, job: str) -> None:
        self.path = run_folder / "steps" / f"{job}.json" if run_folder else None
        self.job = job
        self.started = time.time()

    def __enter__(self) -> Self:
        self.write("running", detail="looking for an earlier result")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self.write("failed", detail=f"{type(error).__name__}: {error}")

    def write(self, status: StepStatus, **facts: Any) -> None:
        """Replaces the state in one rename, so a reader never sees half of it."""
        if self.path is None:
            return
        if "detail" in facts:
            facts["detail"] = str(facts["detail"])[:MAX_DETAIL_CHARS]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(f".{os.getpid()}.tmp")
        state = {"job": self.job, "status": status, "pid": os.getpid(), "started": self.started, "updated": time.time(), **facts}
        temporary.write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")
        temporary.replace(self.path)

    def finish(self, status: StepStatus, record: Record, wall_seconds: float) -> None:
        """The last state: what was made, how long it took, its figures."""
        self.write(
            status,
            wall_seconds=round(wall_seconds, 2),
            digest=record.digest,
            counts=record.counts,
            metrics=record.metrics,
            skipped=record.skipped,
            revision=record.revision,
            key=record.action_key,
        )
