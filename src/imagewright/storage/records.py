"""The record: the one JSON file a job hands to the next, and the proof of what was made from what.

Pointers, not payloads: the payload lies in the store under its digest; the record names it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from imagewright.config.base import Section
from imagewright.errors import InputError, Problem
from imagewright.storage.digests import URI_PREFIX

MAX_RECORD_BYTES = 8 << 20

PayloadKind = Literal["dataset", "model", "results", "report", "none"]


class RecordError(InputError):
    """A file that should be a record and is not."""


class Record(Section):
    """Provenance of one job's output."""

    schema_version: Literal[1] = 1
    job: str
    """Name of the job, as in `imagewright job NAME`."""
    kind: PayloadKind
    digest: str = Field(pattern=r"^([0-9a-f]{64})?$")
    """SHA-256 of the payload (a file, or the tree of a folder); empty when the job has no payload."""
    size_bytes: int = Field(default=0, ge=0)
    action_key: str = ""
    """Key under which the work was done; empty for jobs that always run."""
    inputs: dict[str, str] = Field(default_factory=dict)
    """Input name -> payload digest."""
    config: dict[str, Any] = Field(default_factory=dict)
    """The resolved sections the job read."""
    git_commit: str = ""
    image_digest: str = ""
    counts: dict[str, int] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
    revision: str = ""
    """`name@rev` once committed to the data registry, `name@version` once registered as a model."""
    skipped: str = ""
    """Why the job had nothing to do; then the payload is its input's."""
    wall_seconds: float = Field(default=0.0, ge=0)
    created_at: str = ""
    """UTC, ISO 8601."""

    @property
    def uri(self) -> str:
        """`imagewright://sha256/<digest>`: resolved by the store setting, so moving a bucket breaks no record."""
        return f"{URI_PREFIX}{self.digest}"


def read_record(path: Path) -> Record:
    """Reads a record written by a job. Raises RecordError when the file is missing, too large or not a record."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_RECORD_BYTES + 1)
    except OSError as error:
        raise RecordError(Problem("record", f"cannot be read: {error}", str(path), "run the job that makes it")) from error
    if len(text) > MAX_RECORD_BYTES:
        raise RecordError(Problem("record", f"must be smaller than {MAX_RECORD_BYTES} bytes", str(path), "this is a payload, not a record"))
    return parse_record(text, str(path))


def parse_record(text: bytes | str, source: str) -> Record:
    """Parses a record's JSON; `source` names it in the error."""
    try:
        return Record.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise RecordError(
            Problem("record", f"is not a record: {error.errors(include_url=False)[0]['msg']}", source, "give the record a job wrote")
        ) from error


def write_record(record: Record, path: Path) -> None:
    """Writes a record as readable JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
