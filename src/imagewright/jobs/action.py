"""The action key: two runs of a job with the same key make the same payload."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagewright.config import Config
from imagewright.errors import Problem
from imagewright.jobs.code_digest import code_digest
from imagewright.jobs.job import Job, JobError
from imagewright.storage.records import Record

KEY_SCHEMA = 1


def sections_of(job: Job, config: Config) -> dict[str, Any]:
    """The resolved sections a job reads, as plain values."""
    unknown = [name for name in job.sections if name not in Config.model_fields]
    assert not unknown, f"job {job.name} declares unknown sections {unknown}"
    return config.model_dump(mode="json", include=set(job.sections))


def action_key(
    job: Job, config: Config, inputs: Mapping[str, Record], job_file: Path, image_digest: str = "", index_file: Path | None = None
) -> str:
    """SHA-256 over job, code (or image), its own sections with the seed, and input digests.

    index_file: where the imports of our sources are kept between calls.
    """
    code = image_digest or code_digest(job_file, section_modules(job), index_file=index_file)
    content = {
        "schema": KEY_SCHEMA,
        "job": job.name,
        "code": code,
        "config": sections_of(job, config),
        "seed": config.seed,
        "inputs": {name: record.digest for name, record in sorted(inputs.items())},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def section_modules(job: Job) -> list[str]:
    """Modules that define the sections a job reads."""
    annotations = [Config.model_fields[name].annotation for name in job.sections]
    return sorted({annotation.__module__ for annotation in annotations if isinstance(annotation, type)})


def check_inputs(job: Job, inputs: Mapping[str, Record]) -> None:
    """Refuses missing and unknown inputs, and records without a payload."""
    problems = [
        Problem(f"input.{name}", f"is required by {job.name}", None, f"give --input {name}=RECORD.json")
        for name in job.inputs
        if name not in inputs
    ]
    known = {*job.inputs, *job.optional_inputs}
    problems += [
        Problem(f"input.{name}", f"is not an input of {job.name}", None, f"its inputs: {', '.join(sorted(known)) or 'none'}")
        for name in inputs
        if name not in known
    ]
    problems += [
        Problem(f"input.{name}", "names no payload", record.job, "this job's output is a message, not data")
        for name, record in inputs.items()
        if name in known and not record.digest
    ]
    if problems:
        raise JobError(problems)
