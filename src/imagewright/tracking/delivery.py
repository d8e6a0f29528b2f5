"""Carries a spool to the tracking server, batch by batch; whatever the server will never take is set aside, not lost silently."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imagewright.tracking.identity import Binding, JobIdentity, resolve
from imagewright.tracking.server import ServerDownError, ServerRefusedError, TrackingServer
from imagewright.tracking.spool import Entry, Session, decode, read_json
from imagewright.tracking.spool_reader import MAX_POINTS, Batch, SpoolReader
from imagewright.tracking.spool_writer import SpoolWriter

logger = logging.getLogger("imagewright.tracking")

MAX_UPLOAD_TRIES = 5


class SessionDelivery:
    """Delivers the spool of one process: of this one (with its writer) or of one that is gone."""

    def __init__(self, server: TrackingServer, session: Session, identity: JobIdentity, writer: SpoolWriter | None = None) -> None:
        self._server, self._session, self._identity, self._writer = server, session, identity, writer
        self._reader = SpoolReader(session.folder)
        self._binding: Binding | None = None
        self._upload_tries: dict[Path, int] = {}
        self.num_rejected = 0
        self.drained = False

    def send_next(self) -> bool:
        """Sends one batch or file; False when there is nothing to send now. Raises ServerDownError."""
        binding = self.bind()
        batch = self._reader.next_batch()
        if batch is not None:
            self._send(binding, batch)
            self._reader.acknowledge()
            return True
        if self._send_unwritten(binding):
            return True
        return self._upload_one(binding)

    def bind(self) -> Binding:
        """The MLflow runs that the spooled entries belong to; looked up once, remembered on disk."""
        if self._binding is None:
            known = self._session.binding()
            if known:
                self._binding = Binding(str(known["run"]), str(known["parent"]))
            else:
                try:
                    self._binding = resolve(self._server, self._identity)
                except ServerRefusedError as error:
                    raise ServerDownError(f"the run cannot be opened: {error}") from error
                try:
                    self._session.bind({"run": self._binding.run, "parent": self._binding.parent})
                except OSError:  # a full disk; a replay then finds the same runs by their tags
                    logger.debug("could not remember the run of %s", self._session.folder)
        return self._binding

    def finish(self) -> None:
        """Deletes the spool folder when all of it is delivered, leaves it to the next process otherwise."""
        self._reader.close()
        if self._reader.num_damaged:
            logger.warning("%d damaged lines in the metrics spool %s were skipped", self._reader.num_damaged, self._session.folder)
        if self.drained:
            self._session.remove()
        else:
            self._session.release()

    def _send(self, binding: Binding, batch: Batch) -> None:
        entries = batch.entries
        run = binding.parent if entries[0].get("to") == "parent" else binding.run
        if not run:  # headline values of a job that has no pipeline
            return
        if entries[0]["k"] == "m":
            self._send_points(run, [point for entry in entries for point in points_of(entry)])
        else:
            for entry in entries:
                self._send_entry(run, entry)

    def _send_points(self, run: str, points: Sequence[dict[str, Any]]) -> None:
        """One log_batch; when the server refuses it, halves it until only the refused points are set aside."""
        try:
            self._server.log_batch(run, metrics=points)
        except ServerRefusedError as error:
            if len(points) == 1 or error.code == "RESOURCE_DOES_NOT_EXIST":
                self._set_aside(run, points, error)
                return
            middle = len(points) // 2
            self._send_points(run, points[:middle])
            self._send_points(run, points[middle:])

    def _send_entry(self, run: str, entry: Entry) -> None:
        kind, values = entry["k"], entry.get("v", {})
        try:
            if kind == "p":
                self._server.log_batch(run, params=values)
            elif kind in {"t", "e"}:
                if values:
                    self._server.log_batch(run, tags=values)
                self._keep_event(entry)
            elif kind == "d":
                self._server.log_dataset(run, values["name"], values["digest"], values["uri"], values["context"])
            elif kind == "end":
                self._server.finish_run(run, values["status"], entry["t"])
        except ServerRefusedError as error:
            if kind in {"p", "t"} and len(values) > 1:
                for name, value in values.items():
                    self._send_entry(run, entry | {"v": {name: value}})
            else:
                self._set_aside(run, [entry], error)

    def _keep_event(self, entry: Entry) -> None:
        """Collects events in one file, uploaded at the end; done here, so that a slow disk does not hold whoever logs."""
        if "event" in entry:
            try:
                with self._session.events_file.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(entry["event"]) + "\n")
            except OSError as error:
                logger.warning("event %s could not be kept: %s", entry["event"], error)

    def _send_unwritten(self, binding: Binding) -> bool:
        """While the disk refuses lines, those in memory go to the server directly."""
        lines = self._writer.take_unwritten(MAX_POINTS) if self._writer else []
        sent = 0
        try:
            for line in lines:
                entry = decode(line[:-1])
                assert entry is not None, "our own line is well formed"
                self._send(binding, Batch(0, 0, 0, [entry]))
                sent += 1
        finally:
            if self._writer and sent < len(lines):
                self._writer.give_back(lines[sent:])
        return bool(lines)

    def _upload_one(self, binding: Binding) -> bool:
        """Uploads one waiting artifact. A file that fails several times waits for the next process, it does not hold up numbers."""
        for folder in sorted((self._session.folder / "artifacts").glob("*")):
            if self._upload_tries.get(folder, 0) >= MAX_UPLOAD_TRIES or not (target := read_json(folder / "target.json")):
                continue
            run = binding.parent if target.get("to") == "parent" else binding.run
            try:
                if run:
                    self._server.upload(run, folder / "content", str(target["folder"]))
            except ServerDownError as error:
                self._upload_tries[folder] = self._upload_tries.get(folder, 0) + 1
                if self._upload_tries[folder] == MAX_UPLOAD_TRIES:
                    logger.warning("%s; it stays in %s and is sent by the next run of this job", error, folder)
                raise
            shutil.rmtree(folder, ignore_errors=True)
            return True
        return False

    def end(self) -> None:
        """When no line is left and none will come: uploads the events, notes whether all has arrived. Raises ServerDownError."""
        if self._session.events_file.exists():
            # A kill between keeping an event and acknowledging it keeps it again; its number tells it from a true repetition.
            lines = dict.fromkeys(self._session.events_file.read_text(encoding="utf-8").splitlines(keepends=True))
            self._session.events_file.write_text("".join(lines), encoding="utf-8")
            self._server.upload(self.bind().run, self._session.events_file, "events")
            self._session.events_file.unlink()
        self.drained = not list((self._session.folder / "artifacts").glob("*/target.json"))

    def _set_aside(self, run: str, refused: Sequence[dict[str, Any]], error: ServerRefusedError) -> None:
        path = self._session.folder.parent / "refused.jsonl"
        if not self.num_rejected:
            logger.warning("the tracking server refused what run %s logged (%s); refused entries are kept in %s", run, error, path)
        self.num_rejected += len(refused)
        try:
            with path.open("a", encoding="utf-8") as file:
                for item in refused:
                    file.write(json.dumps({"run": run, "reason": str(error), "entry": item}) + "\n")
        except OSError as problem:
            logger.warning("refused entries could not be kept: %s", problem)


def points_of(entry: Entry) -> list[dict[str, Any]]:
    """MLflow's spelling of a metrics entry."""
    return [{"key": key, "value": value, "timestamp": entry["t"], "step": entry["s"]} for key, value in entry["v"].items()]
