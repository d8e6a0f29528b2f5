"""`--input NAME=REFERENCE`: what a pipeline that runs by itself is fed with, found in the registries, the store or an earlier run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from imagewright.config import Config
from imagewright.errors import InputError, Problem
from imagewright.launch.ir import DeclaredInput, PipelineIR
from imagewright.storage import Store, store_from_environment
from imagewright.storage.digests import URI_PREFIX
from imagewright.storage.records import Record, parse_record, read_record

if TYPE_CHECKING:
    from imagewright.storage.records import PayloadKind

DIGEST = re.compile(r"[0-9a-f]{64}")
FORMS = "name@revision, RUN/JOB, a payload digest, or the path of a record"


def run_parameters(config: Config, inputs: Mapping[str, Record] | None) -> dict[str, str]:
    """Parameters of a run: the resolved configuration, and the records it is fed with when its pipeline takes any."""
    parameters = {"config": config.model_dump_json()}
    if inputs:
        parameters["inputs"] = json.dumps({name: record.model_dump(mode="json") for name, record in inputs.items()})
    return parameters


def resolve_inputs(pipeline: PipelineIR, given: list[str], environ: Mapping[str, str]) -> dict[str, Record]:
    """Records by input name. Raises InputError with every mistake at once: unknown, missing, twice, not found, of the wrong kind."""
    declared = pipeline.inputs()
    references, problems = parse(given, declared, pipeline.name)
    problems += [
        Problem("--input", f"misses {name}, a {one.kind}", None, f"--input {name}=REFERENCE: {FORMS}")
        for name, one in declared.items()
        if one.required and not any(item.partition("=")[0] == name for item in given)
    ]
    records: dict[str, Record] = {}
    store = store_from_environment(environ) if references else None
    for name, reference in references.items():
        assert store is not None
        try:
            records[name] = check(name, declared[name], find(reference, declared[name], store, environ), store)
        except InputError as error:
            problems.extend(error.problems)
    if problems:
        raise InputError(problems)
    return records


def parse(given: list[str], declared: Mapping[str, DeclaredInput], pipeline: str) -> tuple[dict[str, str], list[Problem]]:
    """Splits NAME=REFERENCE pairs."""
    references: dict[str, str] = {}
    problems = []
    for item in given:
        name, separator, reference = item.partition("=")
        if not separator or not reference:
            problems.append(Problem("--input", "must look like NAME=REFERENCE", item, FORMS))
        elif name not in declared:
            known = ", ".join(declared) or "none"
            problems.append(Problem(f"--input {name}", f"is not an input of {pipeline}", reference, f"its inputs: {known}"))
        elif name in references:
            problems.append(Problem(f"--input {name}", "is given twice", reference, "keep one"))
        else:
            references[name] = reference
    return references, problems


def find(reference: str, declared: DeclaredInput, store: Store, environ: Mapping[str, str]) -> Record:
    """The record a reference names."""
    digest = reference.removeprefix(URI_PREFIX)
    if DIGEST.fullmatch(digest):
        kind: PayloadKind = "dataset" if declared.kind == "dataset" else "model"
        return Record(job="import", kind=kind, digest=digest, size_bytes=store.size_bytes(digest))
    if "@" in reference:
        return registered(reference, declared, store, environ)
    if Path(reference).is_file():
        return read_record(Path(reference))
    run, separator, job = reference.partition("/")
    found = store.get_named(f"runs/{run}/{job}.json") if separator and job else None
    if found is None:
        raise InputError(Problem("--input", "names no record", reference, FORMS))
    return parse_record(found.data, reference)


def registered(reference: str, declared: DeclaredInput, store: Store, environ: Mapping[str, str]) -> Record:
    """A dataset revision of the data registry, or a version of the model registry."""
    if declared.kind == "dataset":
        from imagewright.registry import open_registry

        revision = open_registry(environ.get("IMAGEWRIGHT_REGISTRY_URL") or None, store).resolve(reference)
        return Record(job="import", kind="dataset", digest=revision.digest, revision=str(revision), size_bytes=revision.size_bytes)
    from imagewright.tracking.models import ModelRegistry, parse_reference

    uri = environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        raise InputError(Problem("MLFLOW_TRACKING_URI", "is not set, and models are registered there", reference, "imagewright up"))
    version = ModelRegistry(uri).get(*parse_reference(reference))
    return Record(job="import", kind="model", digest=version.digest, revision=str(version), size_bytes=store.size_bytes(version.digest))


def check(name: str, declared: DeclaredInput, record: Record, store: Store) -> Record:
    """Refuses a record of another kind, and one whose payload is gone."""
    if record.kind != declared.kind:
        raise InputError(Problem(f"--input {name}", f"must be a {declared.kind}", record.kind, "name another record"))
    if not store.exists(record.digest):
        raise InputError(
            Problem(f"--input {name}", "names a payload that is not complete in the store", record.uri, "run the job that makes it")
        )
    return record
