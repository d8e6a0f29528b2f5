"""What a launching step leaves in the store for the nodes of its TrainJob, and the record they leave for it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationError

from imagewright.config import Config
from imagewright.config.base import Section
from imagewright.errors import Problem
from imagewright.jobs.job import JobError
from imagewright.storage import Store
from imagewright.storage.records import Record, parse_record


class NodeRequest(Section):
    """One job to be run by several processes on several machines."""

    schema_version: Literal[1] = 1
    job: str
    key: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Action key of the job; names the request and the shared work folder."""
    config: Config
    inputs: dict[str, Record]
    pipeline_run: str = ""
    image_digest: str = ""
    git_commit: str = ""


def request_name(key: str) -> str:
    """Name of the request in the store."""
    return f"train_jobs/{key}/request.json"


def result_name(key: str) -> str:
    """Name of the record the first process leaves."""
    return f"train_jobs/{key}/record.json"


def write_request(store: Store, request: NodeRequest) -> None:
    """Leaves the request."""
    store.put_named(request_name(request.key), request.model_dump_json().encode())


def read_request(store: Store, key: str) -> NodeRequest:
    """The request of a key. Raises JobError when there is none or it is of another version."""
    found = store.get_named(request_name(key))
    if found is None:
        raise JobError(Problem("node", "finds no request in the store", key, "nodes are started by a pipeline step, not by hand"))
    try:
        return NodeRequest.model_validate_json(found.data)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise JobError(Problem("node", f"cannot read its request: {problem}", key, "run launcher and nodes from one image")) from error


def write_result(store: Store, key: str, record: Record) -> None:
    """Leaves the record of the finished job."""
    store.put_named(result_name(key), record.model_dump_json().encode())


def find_result(store: Store, key: str) -> Record | None:
    """The record the nodes left, when its payload is whole."""
    found = store.get_named(result_name(key))
    record = parse_record(found.data, result_name(key)) if found is not None else None
    return record if record is not None and record.action_key == key and store.exists(record.digest) else None


def forget_result(store: Store, key: str) -> None:
    """Removes the result of earlier nodes, for work that must be done again."""
    store.delete_named(result_name(key))


def read_result(store: Store, key: str) -> Record:
    """The record the nodes left. Raises JobError when they ended without one."""
    record = find_result(store, key)
    if record is None:
        raise JobError(Problem("node", "the nodes ended well and left no result", key, "look at the first node's log, then resume the run"))
    return record
