"""Checkpoints: written aside, checksummed, committed by one rename; a damaged one is refused and the one before it used.

Layout of `step-00000100/`: safetensors files, `state.json`, `manifest.json` (size and SHA-256 of each) and `COMMITTED` (SHA-256 of the
manifest). No pickle anywhere. Every process may add files of its own; the first one commits.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from imagewright.errors import InputError, Problem
from imagewright.training.world import World

MANIFEST = "manifest.json"
MARKER = "COMMITTED"
STATE = "state.json"
BEST = "best.json"
PARTIAL = ".partial"
MAX_JSON_BYTES = 64 << 20
VISIBLE_SECONDS, POLL_SECONDS = 120.0, 1.0
"""NFS clients keep what they know of a folder for up to a minute."""


class CheckpointError(InputError):
    """A checkpoint that is cut, damaged, incomplete or made under another configuration."""


@dataclass(frozen=True)
class Checkpoint:
    """A committed, verified checkpoint."""

    path: Path
    step: int
    state: dict[str, Any]

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Tensors of one file; {} when the checkpoint has no such file."""
        path = self.path / f"{name}.safetensors"
        return load_file(path) if path.is_file() else {}


class CheckpointFolder:
    """The checkpoints of one run: newest `keep`, plus the best."""

    def __init__(
        self,
        folder: Path,
        fingerprint: Mapping[str, Any],
        *,
        keep: int = 2,
        world: World | None = None,
        on_event: Callable[[str, str], None],
    ) -> None:
        """fingerprint: the settings a checkpoint must agree with to be resumed. on_event(name, detail) hears of refusals and failures."""
        self.folder, self.keep, self.world, self.on_event = folder, keep, world or World(), on_event
        self.fingerprint: dict[str, Any] = json.loads(json.dumps(fingerprint))
        folder.mkdir(parents=True, exist_ok=True)

    def save(
        self,
        step: int,
        tensors: Mapping[str, Mapping[str, Tensor]],
        state: Mapping[str, Any],
        own: Mapping[str, Tensor] | None = None,
        value: float | None = None,
    ) -> bool:
        """Writes and commits one checkpoint; False (with an event, nothing left behind) when storage fails, so that training goes on.

        tensors: file name -> tensors, written by the first process. own: this process's tensors. value: validation loss, for `best`.
        All processes must call it.
        """
        partial = self.folder / f"{folder_name(step)}{PARTIAL}"
        written = self.attempt(lambda: self.write_files(partial, tensors, state, own or {}))
        committed = self.attempt(lambda: self.commit(partial, step)) if written else False
        if not committed:
            if self.world.is_first:
                shutil.rmtree(partial, ignore_errors=True)
            return False
        if self.world.is_first:
            # Only after the commit: until then the earlier checkpoints are all there is.
            self.note_best(step, value)
            self.prune()
        return True

    def attempt(self, action: Callable[[], None]) -> bool:
        """Runs one phase in every process; True when it worked in all."""
        try:
            action()
            worked = True
        except (OSError, SafetensorError) as error:
            self.on_event("checkpoint_failed", f"process {self.world.rank}: {error}")
            worked = False
        return self.world.all_true(worked)

    def write_files(
        self, partial: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any], own: Mapping[str, Tensor]
    ) -> None:
        """Writes this process's files into the partial folder."""
        partial.mkdir(parents=True, exist_ok=True)
        if self.world.is_first:
            for name, content in tensors.items():
                write_tensors(partial / f"{name}.safetensors", content)
            full = {**state, "world_size": self.world.size, "fingerprint": self.fingerprint}
            write_bytes(partial / STATE, json.dumps(full, sort_keys=True).encode())
        if own:
            write_tensors(partial / f"{rank_file(self.world.rank)}.safetensors", own)

    def commit(self, partial: Path, step: int) -> None:
        """Checksums every file and makes the folder visible in one rename."""
        if not self.world.is_first:
            return
        files = {path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in sorted(partial.iterdir())}
        manifest = json.dumps({"schema_version": 1, "step": step, "files": files}, sort_keys=True).encode()
        write_bytes(partial / MANIFEST, manifest)
        write_bytes(partial / MARKER, hashlib.sha256(manifest).hexdigest().encode())
        sync_folder(partial)
        target = self.folder / folder_name(step)
        if target.exists():  # written by an earlier attempt of this run and refused since, or saved again after a roll-back
            shutil.rmtree(target)
        partial.rename(target)
        sync_folder(self.folder)

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole and fits, the same in every process; None when the run has none. All processes must call it.

        The first process chooses: a folder that machines share may show another one later what it shows the first.
        """
        chosen = self.newest_here() if self.world.is_first else None
        step = int(self.world.from_first(-1.0 if chosen is None else float(chosen.step)))
        return chosen if self.world.is_first or step < 0 else self.wait_for(step)

    def wait_for(self, step: int) -> Checkpoint:
        """The checkpoint of a step, as soon as this machine can read it. Raises CheckpointError when it never can."""
        until = time.monotonic() + VISIBLE_SECONDS
        while True:
            try:
                return read_checkpoint(self.folder / folder_name(step))
            except CheckpointError:
                if time.monotonic() > until:
                    raise
            time.sleep(POLL_SECONDS)

    def newest_here(self) -> Checkpoint | None:
        """The newest checkpoint that is whole and fits, as this process sees the folder.

        Damaged ones are reported and passed over. Raises CheckpointError when checkpoints exist and none can be used, or the newest whole
        one was made under another configuration: starting over in silence would throw work away.
        """
        problems: list[Problem] = []
        for step in sorted(self.steps(), reverse=True):
            try:
                checkpoint = read_checkpoint(self.folder / folder_name(step))
            except CheckpointError as error:
                problems.extend(error.problems)
                self.on_event("checkpoint_refused", str(error))
                continue
            self.check_fingerprint(checkpoint)
            return checkpoint
        if problems:
            raise CheckpointError(problems)
        return None

    def check_fingerprint(self, checkpoint: Checkpoint) -> None:
        """Refuses a checkpoint made under other settings, naming every difference."""
        saved = checkpoint.state.get("fingerprint", {})
        problems = [
            Problem(
                f"checkpoint.{key}",
                f"must be {self.fingerprint.get(key)!r} as configured",
                saved.get(key),
                "resume with the run's own recipe",
            )
            for key in sorted({*saved, *self.fingerprint})
            if saved.get(key) != self.fingerprint.get(key)
        ]
        if problems:
            raise CheckpointError(problems)

    def steps(self) -> list[int]:
        """Steps of the committed checkpoints."""
        names = (path.name.removeprefix("step-") for path in self.folder.glob("step-*") if path.is_dir())
        return sorted(int(name) for name in names if name.isdigit())

    def best(self) -> tuple[int, float] | None:
        """Step and validation loss of the best checkpoint."""
        try:
            found = json.loads((self.folder / BEST).read_text(encoding="utf-8"))
            return int(found["step"]), float(found["value"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def note_best(self, step: int, value: float | None) -> None:
        """Moves the best mark when this checkpoint has a lower validation loss."""
        before = self.best()
        if value is not None and (before is None or value < before[1]):
            partial = self.folder / f"{BEST}{PARTIAL}"
            partial.write_text(json.dumps({"step": step, "value": value}), encoding="utf-8")
            partial.replace(self.folder / BEST)

    def prune(self) -> None:
        """Deletes what is neither among the newest `keep` nor the best, and what a killed save left behind."""
        best = self.best()
        kept = {*self.steps()[-self.keep :], *([best[0]] if best else [])}
        for step in self.steps():
            if step not in kept:
                shutil.rmtree(self.folder / folder_name(step), ignore_errors=True)
        for path in self.folder.glob(f"step-*{PARTIAL}"):
            shutil.rmtree(path, ignore_errors=True)


def folder_name(step: int) -> str:
    """Folder of the checkpoint taken after `step` steps."""
    return f"step-{step:08d}"


def rank_file(rank: int) -> str:
    """File name (no suffix) of one process's own tensors."""
    return f"process-{rank:05d}"


def read_checkpoint(path: Path) -> Checkpoint:
    """Opens a committed checkpoint and verifies every byte of it. Raises CheckpointError naming what is wrong."""
    manifest = read_bytes(path / MANIFEST)
    if hashlib.sha256(manifest).hexdigest().encode() != read_bytes(path / MARKER):
        raise CheckpointError(
            Problem(f"checkpoint.{MANIFEST}", "does not match its commit mark", str(path), "use the checkpoint before it")
        )
    content = json.loads(manifest)
    problems = []
    for name, expected in content["files"].items():
        file = path / name
        if not file.is_file():
            problems.append(Problem(f"checkpoint.{name}", "is missing", str(path), "use the checkpoint before it"))
        elif file.stat().st_size != expected["bytes"]:
            problems.append(Problem(f"checkpoint.{name}", f"must have {expected['bytes']} bytes", file.stat().st_size, "it was cut short"))
        elif file_sha256(file) != expected["sha256"]:
            problems.append(Problem(f"checkpoint.{name}", "does not match its checksum", str(path), "use the checkpoint before it"))
    if problems:
        raise CheckpointError(problems)
    return Checkpoint(path, content["step"], json.loads(read_bytes(path / STATE)))


def read_bytes(path: Path) -> bytes:
    """A small file of a checkpoint."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_JSON_BYTES + 1)
    except OSError as error:
        raise CheckpointError(Problem(f"checkpoint.{path.name}", "cannot be read", str(error), "use the checkpoint before it")) from error
    if len(content) > MAX_JSON_BYTES:
        raise CheckpointError(Problem(f"checkpoint.{path.name}", f"must be smaller than {MAX_JSON_BYTES} bytes", str(path)))
    return content


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes one safetensors file through to the disk."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a small file through to the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Makes renames and new names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
