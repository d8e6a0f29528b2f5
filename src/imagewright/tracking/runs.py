"""The run of a job or of a whole pipeline in MLflow: everything goes through the spool, a thread carries it to the server."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from imagewright.tracking.delivery import SessionDelivery
from imagewright.tracking.identity import JobIdentity, digest_of_config
from imagewright.tracking.job_run import MAX_EVENT_CHARS, RunStatus, check_artifact, check_dataset, check_name, check_step, split_metrics
from imagewright.tracking.server import ServerDownError, TrackingServer
from imagewright.tracking.spool import abandoned_sessions, encode, new_session
from imagewright.tracking.spool_reader import MAX_POINTS
from imagewright.tracking.spool_writer import SpoolWriter
from imagewright.tracking.system_metrics import SystemMetrics

logger = logging.getLogger("imagewright.tracking")

FLUSH_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 15.0
DRAIN_SECONDS = 60.0
MAX_PARAM_CHARS = 6000
MAX_TAG_CHARS = 8000
MAX_ITEMS = 100  # MLflow's limit for params or tags in one log_batch
MAX_ITEMS_CHARS = 400_000  # below MLflow's limit of 1 MB for one request, whatever the characters
# Events shown as tags per name; all of them are in the events file. A run that diverges logs one every step.
MAX_EVENT_TAGS = 20


class MlflowRun:
    """A `JobRun` on an MLflow server. Opening it never waits for the server.

    drain_seconds: how long `close` waits for the server to take what is left; the rest stays in the spool for the next process.
    system_seconds: interval of CPU, memory, disk, network and GPU figures; 0 leaves them out.
    """

    def __init__(
        self,
        uri: str,
        identity: JobIdentity,
        spool: Path,
        config: Mapping[str, Any],
        *,
        drain_seconds: float = DRAIN_SECONDS,
        system_seconds: float = 10.0,
    ) -> None:
        work = hashlib.sha256(str(spool.resolve()).encode()).hexdigest()[:16]
        started = time.time_ns() // 1_000_000
        self.identity = replace(identity, config_digest=digest_of_config(config), work=work, started_at_ms=started)
        self._server, self._spool, self._drain_seconds = TrackingServer(uri), spool, drain_seconds
        self._earlier = abandoned_sessions(spool)
        self._session = new_session(spool, self.identity.to_json())
        self._writer = SpoolWriter(self._session.folder, logger.warning)
        self._delivery = SessionDelivery(self._server, self._session, self.identity, self._writer)
        self._lock = threading.Lock()
        self._last: dict[str, int] = {}
        self._num_events: dict[str, int] = {}
        self._num_artifacts = 0
        self._outage = ""
        self._closing, self._deadline, self._closed = threading.Event(), float("inf"), False
        self._thread = threading.Thread(target=self._deliver_loop, name="tracking-delivery", daemon=True)
        self._thread.start()
        self.log_params(config)
        self._append("t", self.identity.headline_tags(), to_parent=True)
        self._system = SystemMetrics(self, system_seconds)

    def log_metrics(self, metrics: Mapping[str, Any], step: int) -> None:
        step = check_step(step)
        finite, odd = split_metrics(metrics)
        items = list(finite.items())
        with self._lock:  # a point's identity is (run, name, step, time, value): times of one name never repeat
            now = max([time.time_ns() // 1_000_000, *(self._last[name] + 1 for name in finite if name in self._last)])
            self._last.update(dict.fromkeys(finite, now))
        chunks = [dict(items[start : start + MAX_POINTS]) for start in range(0, len(items), MAX_POINTS)]
        lines = [encode({"k": "m", "t": now, "s": step, "v": chunk}) for chunk in chunks]
        if lines:
            self._writer.append(lines)
        if odd:
            self.log_event("non_finite", step, ", ".join(f"{name}={value}" for name, value in odd.items()))

    def log_params(self, params: Mapping[str, Any]) -> None:
        values = {name: shorten(value, MAX_PARAM_CHARS) for name, value in flatten(params).items()}
        self._append("p", values)

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        self._append("t", {check_name("tag", name): shorten(str(value), MAX_TAG_CHARS) for name, value in tags.items()})

    def log_dataset(self, name: str, digest: str, uri: str, context: str) -> None:
        check_dataset(name, digest)
        self._writer.append([encode({"k": "d", "v": {"name": name, "digest": digest, "uri": uri, "context": context}})])

    def log_artifact(self, path: Path, folder: str = "") -> None:
        check_artifact(path, folder)
        self._keep_artifact(path, folder, "")

    def log_event(self, name: str, step: int, detail: str) -> None:
        check_name("event", name)
        step, detail = check_step(step), detail[:MAX_EVENT_CHARS]
        with self._lock:
            count = self._num_events[name] = self._num_events.get(name, 0) + 1
        event = {"name": name, "step": step, "time_ms": time.time_ns() // 1_000_000, "number": count, "detail": detail}
        tag = {f"event.{name}.{step}": detail} if count <= MAX_EVENT_TAGS else {}
        self._writer.append([encode({"k": "e", "v": tag, "event": event})])

    def close(self, status: RunStatus = "FINISHED", headline: Mapping[str, Any] | None = None, report: Path | None = None) -> None:
        if self._closed:
            return
        self._closed = True
        self._system.stop()
        self._log_headline(headline or {}, report)
        self._writer.append([encode({"k": "end", "t": time.time_ns() // 1_000_000, "v": {"status": status}})])
        self._deadline = time.monotonic() + self._drain_seconds
        self._closing.set()
        self._thread.join(self._drain_seconds + 1)
        if not self._delivery.drained:
            logger.warning(
                "not all that %s logged has reached the tracking server (%s); it is kept in %s and is delivered when this job runs again",
                self.identity.task or self.identity.pipeline_run, self._outage or "it is slow", self._spool,
            )  # fmt: skip
        if self._writer.num_dropped:
            logger.warning("%d log calls were lost because neither disk nor server took them", self._writer.num_dropped)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is not None and not self._closed:
            self.set_tags({"error": f"{kind.__name__}: {error}"})
        self.close("FINISHED" if kind is None else "KILLED" if issubclass(kind, KeyboardInterrupt | SystemExit) else "FAILED")

    def _log_headline(self, headline: Mapping[str, Any], report: Path | None) -> None:
        finite, _ = split_metrics(headline)
        now = time.time_ns() // 1_000_000
        if finite:
            prefixed = {f"{self.identity.task}/{name}": value for name, value in finite.items()}
            self._writer.append([encode({"k": "m", "t": now, "s": 0, "v": finite})])
            self._writer.append([encode({"k": "m", "t": now, "s": 0, "v": prefixed, "to": "parent"})])
        if report is not None and report.exists():
            self._keep_artifact(report, "report", "")
            self._keep_artifact(report, f"report/{self.identity.task}", "parent")

    def _append(self, kind: str, values: Mapping[str, str], to_parent: bool = False) -> None:
        extra = {"to": "parent"} if to_parent else {}
        self._writer.append([encode({"k": kind, "v": group} | extra) for group in groups(values)])

    def _keep_artifact(self, path: Path, folder: str, to: str) -> None:
        """Copies the file beside the spool; it is uploaded once the description is in place, so a half copy never is."""
        with self._lock:
            self._num_artifacts += 1
            place = self._session.folder / "artifacts" / f"{self._num_artifacts:06d}"
        try:
            content = place / "content"
            content.mkdir(parents=True)
            if path.is_dir():
                shutil.copytree(path, content, dirs_exist_ok=True)
            else:
                shutil.copy2(path, content / path.name)
            temporary = place / "target.tmp"
            temporary.write_text(json.dumps({"folder": folder, "to": to}))
            temporary.replace(place / "target.json")
        except OSError as error:
            shutil.rmtree(place, ignore_errors=True)
            logger.warning("artifact %s could not be kept for upload: %s", path, error)

    def _deliver_loop(self) -> None:
        earlier = [SessionDelivery(self._server, session, identity_of(session.describe())) for session in self._earlier]
        queue = [*earlier, self._delivery]
        delay = 0.0
        while queue and time.monotonic() < self._deadline:
            closing = self._closing.is_set()
            try:
                while time.monotonic() < self._deadline and queue[0].send_next():
                    self._recovered()
                    delay = 0.0
                if queue[0] is not self._delivery or closing:
                    queue[0].end()
                    queue.pop(0).finish()
                    continue
                self._closing.wait(FLUSH_SECONDS)
            except ServerDownError as error:
                self._report_outage(str(error))
                delay = min(max(2 * delay, 0.5), 1.0 if self._closing.is_set() else MAX_BACKOFF_SECONDS)
                self._wait(delay)
        for delivery in queue:
            delivery.finish()
        self._writer.close()

    def _wait(self, seconds: float) -> None:
        """Waits before the next try; closing cuts a long wait short but never turns it into a busy loop."""
        if self._closing.is_set():
            time.sleep(min(seconds, 1.0))
        else:
            self._closing.wait(seconds)

    def _report_outage(self, reason: str) -> None:
        if not self._outage:
            logger.warning(
                "the tracking server %s does not answer (%s); metrics wait in %s and are sent later", self._server.uri, reason, self._spool
            )
        self._outage = reason

    def _recovered(self) -> None:
        if self._outage:
            logger.warning("the tracking server answers again; what waited is being sent")
        self._outage = ""


def identity_of(description: Mapping[str, Any]) -> JobIdentity:
    """The identity an earlier process wrote down; fields this version does not know are dropped."""
    known = {name: value for name, value in description.items() if name in JobIdentity.__dataclass_fields__}
    return JobIdentity(**({"task": "unknown"} | known))


def open_pipeline_run(
    uri: str, pipeline_run: str, spool: Path, config: Mapping[str, Any], *, recipe: str = "", git_commit: str = ""
) -> MlflowRun:
    """The parent run of a whole pipeline, opened by whoever submits it; jobs find it by the pipeline run id."""
    identity = JobIdentity(task="", pipeline_run=check_name("pipeline run", pipeline_run), recipe=recipe, git_commit=git_commit)
    return MlflowRun(uri, identity, spool, config, system_seconds=0)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted keys; lists of plain values stay one value, lists of mappings are counted from 0."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        key = re.sub(r"[^\w\-. /:]", "_", f"{prefix}{name}")[:250]
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{key}.")
        elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
            flat |= flatten({str(index): item for index, item in enumerate(value)}, f"{key}.")
        else:
            flat[key] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return flat


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters; a cut text ends with the digest of the whole, so two long values that differ still look different."""
    if len(text) <= limit:
        return text
    mark = f"... sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    return text[: limit - len(mark)] + mark


def groups(values: Mapping[str, str]) -> list[dict[str, str]]:
    """Splits into groups that MLflow takes in one request."""
    parts: list[dict[str, str]] = []
    size = 0
    for name, value in values.items():
        length = len(name) + 6 * len(value)  # JSON writes a character in up to six
        if not parts or len(parts[-1]) >= MAX_ITEMS or size + length > MAX_ITEMS_CHARS:
            parts.append({})
            size = 0
        parts[-1][name] = value
        size += length
    return parts
