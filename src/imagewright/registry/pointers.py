"""What a registry commit holds for a dataset: DVC's pointer file and our record with the SHA-256 of every file.

The formats are DVC 3's own (`outs:` with md5, size, nfiles; a `.dir` object is a sorted JSON list); written without dvc because
importing it takes seconds. The tests run the real dvc on them.
"""

from __future__ import annotations

import json
import re
from typing import Literal

from pydantic import Field, ValidationError

from imagewright.config.base import Section
from imagewright.errors import Problem
from imagewright.registry.names import RegistryError
from imagewright.storage.tree import TreeEntry, dvc_folder

REMOTE_NAME = "store"


class DatasetRecord(Section):
    """The `<name>.json` of a commit: what the revision is, file by file."""

    schema_version: Literal[1] = 1
    name: str
    version: int = Field(ge=1)
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the payload in the store."""
    dvc_directory: str = Field(pattern=r"^[0-9a-f]{32}\.dir$")
    """DVC's identity of the same folder."""
    num_files: int = Field(ge=1)
    size_bytes: int = Field(ge=0)
    files: tuple[TreeEntry, ...]


def describe(name: str, version: int, digest: str, files: list[TreeEntry]) -> DatasetRecord:
    """The record of a payload that is committed as `name@v<version>`. files: its tree, stored in DVC's layout."""
    folder = dvc_folder(files)
    return DatasetRecord(
        name=name,
        version=version,
        digest=digest,
        dvc_directory=folder.md5,
        num_files=folder.num_files,
        size_bytes=folder.size_bytes,
        files=tuple(sorted(files, key=lambda file: file.path)),
    )


def pointer_text(record: DatasetRecord) -> str:
    """The `<name>.dvc` file, as `dvc add <name>` would write it."""
    lines = ["outs:", f"- md5: {record.dvc_directory}", f"  size: {record.size_bytes}", f"  nfiles: {record.num_files}"]
    return "\n".join([*lines, "  hash: md5", f"  path: {record.name}", ""])


def record_text(record: DatasetRecord) -> str:
    """The `<name>.json` file: one line per file, so that git's own diff reads well."""
    head = json.dumps(record.model_dump(mode="json", exclude={"files"}), indent=2, ensure_ascii=False)
    lines = ",\n".join("    " + json.dumps(file.model_dump(mode="json"), ensure_ascii=False) for file in record.files)
    return f'{head[:-2]},\n  "files": [\n{lines}\n  ]\n}}\n'


def parse_dataset_record(text: bytes, source: str) -> DatasetRecord:
    """Reads a `<name>.json`; `source` names it in the error. Raises RegistryError when it is not one."""
    try:
        return DatasetRecord.model_validate_json(text)
    except ValidationError as error:
        rule = f"must be a dataset record: {error.errors(include_url=False)[0]['msg']}"
        raise RegistryError(Problem("registry.record", rule, source, "restore the file from the revision's tag")) from error


def dvc_remote(store_url: str) -> str:
    """The address of DVC's remote inside a store: a path for a folder, `s3://bucket/prefix/dvc` otherwise.

    The endpoint that an S3 store's address ends with (`s3://bucket/prefix at http://...`) is left out: it may change with every start.
    """
    if store_url.startswith("file://"):
        return f"{store_url.removeprefix('file://').rstrip('/')}/dvc"
    return f"{store_url.partition(' at http')[0].rstrip('/')}/dvc"


def remote_config(url: str, existing: str = "") -> str:
    """`.dvc/config` that names the remote; other settings in an existing file are kept.

    It holds no endpoint and no credentials: those come from the environment (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...).
    """
    section = f"['remote \"{REMOTE_NAME}\"']"
    if section not in existing:
        core = (
            "" if re.search(r"^\s*remote\s*=", existing, re.MULTILINE) else f"[core]\n    remote = {REMOTE_NAME}\n    analytics = false\n"
        )
        return f"{existing}{core}{section}\n    url = {url}\n"
    before, after = existing.split(section, 1)
    body, bracket, rest = after.partition("\n[")
    body = re.sub(r"^(\s*url\s*=).*$", lambda match: f"{match[1]} {url}", body, count=1, flags=re.MULTILINE)
    return before + section + body + bracket + rest


def ignore_lines(existing: str, name: str) -> str:
    """`.gitignore` with the line that keeps the pulled payload of `name` out of git."""
    if f"/{name}" in existing.splitlines():
        return existing
    return f"{existing}{'' if not existing or existing.endswith(chr(10)) else chr(10)}/{name}\n"
