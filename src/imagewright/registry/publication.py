"""Gets one revision into the registry: fetch, apply, push, and again when somebody else was first."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagewright.errors import Problem
from imagewright.registry import pointers
from imagewright.registry.git import GitError, redact
from imagewright.registry.names import RegistryError
from imagewright.registry.private_clone import PrivateClone, RevisionCommit, commit_message, private_clone, tag_reference
from imagewright.registry.repository import commit_lock

if TYPE_CHECKING:
    from imagewright.storage.tree import TreeEntry

DEADLINE_SECONDS = 300.0
MAX_PAUSE_SECONDS = 5.0
NUM_NETWORK_TRIES = 4


@dataclass(frozen=True)
class Publication:
    """A payload that is complete in the store and shall be the next revision of a dataset."""

    name: str
    digest: str
    files: list[TreeEntry]
    message: str
    identity: str
    """`Name <mail>` of the committer."""
    remote: str
    """DVC's remote, as `.dvc/config` names it."""


def publish(publication: Publication, url: str, local: Path | None) -> str:
    """Returns the revision that now holds the payload: a new one, or the one that already did. Raises RegistryError.

    A rejected push means that another commit went in: ours is applied anew on top of it. The pause before is drawn from a range that
    doubles with every rejection, starting at what an attempt takes, so that committers spread out as far as the server is slow.
    """
    deadline = time.monotonic() + DEADLINE_SECONDS
    num_rejected = num_failed = 0
    with private_clone(url, local) as clone:
        while True:
            started = time.monotonic()
            try:
                with commit_lock(local) as lock:
                    clone.fetch()
                    revision = apply(clone, publication, lock)
            except GitError as error:
                num_failed += 1
                if not error.passing or num_failed >= NUM_NETWORK_TRIES:
                    raise
            else:
                if revision:
                    return revision
                num_failed, num_rejected = 0, num_rejected + 1
            now = time.monotonic()
            if now > deadline:
                fix = "commit again when fewer do at the same time; the payload is stored already"
                rule = f"kept rejecting the commit for {DEADLINE_SECONDS:.0f} s, {num_rejected} times: {clone.rejection}"
                raise RegistryError(Problem("registry.url", rule, redact(url), fix))
            longest = (now - started) * 2.0 ** min(num_rejected + num_failed, 6)
            time.sleep(random.uniform(0.0, min(longest, MAX_PAUSE_SECONDS)))


def apply(clone: PrivateClone, publication: Publication, lock: int | None) -> str:
    """One attempt on a freshly fetched clone; returns the revision, empty when the push was rejected."""
    name = publication.name
    # A commit whose tag is missing was cut off while its references were written: its tag goes out in the same push.
    cut_off = clone.untagged()
    references = {tag_reference(revision.name, revision.version): revision.commit for revision in cut_off}
    own = sorted((revision for revision in [*clone.revisions, *cut_off] if revision.name == name), key=lambda revision: revision.version)
    same = [revision for revision in own if revision.digest == publication.digest]
    if same:
        return str(same[-1]) if not references or clone.push(references, lock) else ""
    version = own[-1].version + 1 if own else 1
    while tag_reference(name, version) in clone.tags:  # somebody's own tag: it keeps its name
        version += 1
    commit = clone.add(revision_commit(clone, publication, version), publication.identity)
    references[f"refs/heads/{clone.branch}"] = references[tag_reference(name, version)] = commit
    return f"{name}@v{version}" if clone.push(references, lock) else ""


def revision_commit(clone: PrivateClone, publication: Publication, version: int) -> RevisionCommit:
    """The files of the commit; what people added to DVC's and git's own files stays."""
    record = pointers.describe(publication.name, version, publication.digest, publication.files)
    config, ignored = (clone.read(path).decode("utf-8", "replace") for path in (".dvc/config", ".gitignore"))
    files = {
        ".dvc/config": pointers.remote_config(publication.remote, config),
        ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
        ".gitignore": pointers.ignore_lines(ignored, record.name),
        f"{record.name}.dvc": pointers.pointer_text(record),
        f"{record.name}.json": pointers.record_text(record),
    }
    text = commit_message(publication.message, record.name, record.version, record.digest, record.num_files, record.size_bytes)
    return RevisionCommit(record.name, record.version, {path: content.encode("utf-8") for path, content in files.items()}, text)
