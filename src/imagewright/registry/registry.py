"""The data registry: `commit` names a stored payload `name@v<n>` for good, `resolve` finds it again, `checkout` brings it back."""

from __future__ import annotations

import os
import random
import re
import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from imagewright.errors import Problem
from imagewright.registry import pointers
from imagewright.registry.difference import Difference, compare
from imagewright.registry.git import GitError
from imagewright.registry.names import RegistryError, Revision, check_name, parse_revision, unknown_name, unknown_version
from imagewright.registry.private_clone import PrivateClone, RevisionCommit, commit_message, list_references, private_clone, tag_reference
from imagewright.registry.repository import IDENTITY, commit_lock, create_repository, own_identity, resolve_url

if TYPE_CHECKING:
    from imagewright.storage.store import Store
    from imagewright.storage.tree import TreeEntry

JOB_IDENTITY = "Imagewright <imagewright@localhost>"
DEFAULT_FOLDER = Path(".imagewright")
COMMIT_DEADLINE_SECONDS = 180.0
MAX_PAUSE_SECONDS = 2.0
NUM_NETWORK_TRIES = 4
MAX_MESSAGE_CHARS = 4000
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class DataRegistry:
    """Revisions of datasets: DVC pointers and tags in a git repository, payloads in the store.

    identity: `Name <mail>` of who commits; None takes git's own. Raises RegistryError when the URL is no repository.
    """

    def __init__(self, git_url: str | Path, store: Store, *, identity: str | None = None) -> None:
        self.url, self._local = resolve_url(str(git_url))
        self.store = store
        if identity is not None and not IDENTITY.fullmatch(identity):
            raise RegistryError(
                Problem("registry.identity", "must be written as Name <mail>", identity, "as in: Ada Lovelace <ada@example.com>")
            )
        self._identity = identity

    def commit(self, name: str, payload: str | Path, message: str) -> str:
        """Publishes a folder, or a payload already in the store (its digest), as the next revision; returns `name@v<n>`.

        A digest that some revision of `name` already has is not committed again: that revision is returned. Safe against being killed:
        either nothing of the revision is visible or all of it. Raises RegistryError.
        """
        check_name(name)
        checked_message(message)
        identity = self._identity or own_identity(Path.cwd())
        digest = self._stored(payload)
        files = self._checked_files(digest, str(payload))
        deadline, num_failures = time.monotonic() + COMMIT_DEADLINE_SECONDS, 0
        while True:
            try:
                revision = self._try_commit(name, digest, files, message, identity)
            except GitError as error:
                num_failures += 1
                if not error.passing or num_failures >= NUM_NETWORK_TRIES:
                    raise
                revision = ""
            else:
                num_failures = 0
            if revision:
                return revision
            if time.monotonic() > deadline:
                fix = "try again when fewer commit at the same time"
                raise RegistryError(Problem("registry.url", f"stayed contended for {COMMIT_DEADLINE_SECONDS:.0f} s", self.url, fix))
            time.sleep(random.uniform(0.02, MAX_PAUSE_SECONDS / 4 * (1 + num_failures)))

    def resolve(self, revision: str) -> Revision:
        """The revision behind `name@v3`, `name@latest` or `name`. Raises RegistryError, naming the nearest, when there is none."""
        name, version = parse_revision(revision)
        known = self._of(name)
        if version is None:
            return known[-1]
        for candidate in known:
            if candidate.version == version:
                return candidate
        raise unknown_version(name, version, [candidate.version for candidate in known])

    def log(self, name: str) -> list[Revision]:
        """Every revision of a dataset, newest first. Raises RegistryError when there is no such dataset."""
        return self._of(check_name(name))[::-1]

    def revisions(self) -> list[Revision]:
        """Every revision of every dataset: what garbage collection must keep."""
        if self._local:
            return list_references(self._local, self.url)[1]
        with private_clone(self.url, None) as clone:
            return clone.revisions

    def checkout(self, revision: str, folder: Path) -> Revision:
        """Downloads a revision into a new or empty folder, verified. Raises RegistryError, or StoreError when the payload is damaged."""
        found = self.resolve(revision)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RegistryError(
                Problem("checkout.folder", "must be new or empty", str(folder), "choose another folder; nothing is overwritten")
            )
        if folder.exists():
            folder.rmdir()
        self.store.get(found.digest, folder)
        return found

    def diff(self, before: str, after: str) -> Difference:
        """What changed from one revision to another: rows and distributions of manifests, else files. Raises RegistryError."""
        return compare(self.store, self.resolve(before), self.resolve(after))

    def _of(self, name: str) -> list[Revision]:
        revisions = self.revisions()
        known = [revision for revision in revisions if revision.name == name]
        if not known:
            raise unknown_name(name, {revision.name for revision in revisions})
        return known

    def _stored(self, payload: str | Path) -> str:
        if isinstance(payload, str) and re.fullmatch(r"(imagewright://sha256/)?[0-9a-f]{64}", payload):
            return payload[-64:]
        path = Path(payload)
        if path.is_dir():
            return self.store.put_folder(path, dvc_layout=True)
        if not path.is_file():
            raise RegistryError(Problem("commit.path", "must be a folder, a file or a payload digest", str(payload), "check the path"))
        with tempfile.TemporaryDirectory() as folder:
            shutil.copyfile(path, Path(folder) / path.name)
            return self.store.put_folder(Path(folder), dvc_layout=True)

    def _checked_files(self, digest: str, payload: str) -> list[TreeEntry]:
        files = self.store.tree(digest)
        if not files:
            raise RegistryError(Problem("commit.path", "must hold at least one file", payload, "commit a folder with files in it"))
        self.store.dvc_folder(digest)  # refuses what was not stored in DVC's layout
        if lost := self.store.missing_files(files):
            names = ", ".join(entry.path for entry in lost[:5])
            rule = f"must be complete in the store; {len(lost)} files are not there, such as {names}"
            raise RegistryError(Problem("commit.digest", rule, digest, "store the folder again from its source"))
        return files

    def _try_commit(self, name: str, digest: str, files: list[TreeEntry], message: str, identity: str) -> str:
        with ExitStack() as stack:
            lock = stack.enter_context(commit_lock(self._local))
            clone = stack.enter_context(private_clone(self.url, self._local))
            # A commit whose tag is missing was cut off while its references were written: its tag goes out first, in the same push.
            cut_off = {(revision.name, revision.version): revision for revision in clone.untagged()}
            published = [revision for revision in clone.revisions if revision.name == name]
            own = sorted([*published, *(found for found in cut_off.values() if found.name == name)], key=lambda found: found.version)
            references = {tag_reference(*key): revision.commit for key, revision in cut_off.items()}
            same = [revision for revision in own if revision.digest == digest]
            if same and not references:
                return str(same[-1])
            if same:
                return str(same[-1]) if clone.push(references, lock) else ""
            version = own[-1].version + 1 if own else 1
            while tag_reference(name, version) in clone.tags:  # somebody's own tag: it keeps its name
                version += 1
            commit = self._revision_commit(clone, pointers.describe(name, version, digest, files), message)
            references[f"refs/heads/{clone.branch}"] = references[tag_reference(name, version)] = clone.add(commit, identity)
            return f"{name}@v{version}" if clone.push(references, lock) else ""

    def _revision_commit(self, clone: PrivateClone, record: pointers.DatasetRecord, message: str) -> RevisionCommit:
        def existing(path: str) -> str:
            return clone.read(path).decode("utf-8", "replace")

        files = {
            ".dvc/config": pointers.remote_config(pointers.dvc_remote(self.store.url), existing(".dvc/config")),
            ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
            ".gitignore": pointers.ignore_lines(existing(".gitignore"), record.name),
            f"{record.name}.dvc": pointers.pointer_text(record),
            f"{record.name}.json": pointers.record_text(record),
        }
        text = commit_message(message, record.name, record.version, record.digest, record.num_files, record.size_bytes)
        return RevisionCommit(record.name, record.version, {path: content.encode("utf-8") for path, content in files.items()}, text)


def checked_message(message: str) -> None:
    """Raises RegistryError unless the message says something and can stand in a git commit."""
    if not message.strip() or len(message) > MAX_MESSAGE_CHARS or UNPRINTABLE.search(message):
        rule = f"must be 1 to {MAX_MESSAGE_CHARS} printable characters"
        raise RegistryError(Problem("commit.message", rule, message, "say in a sentence what changed and why"))


def open_registry(git_url: str | Path | None, store: Store, *, identity: str | None = None) -> DataRegistry:
    """The registry at `git_url`; without one, the bare repository beside the local store, made when missing."""
    return DataRegistry(git_url or create_repository(default_path(store.url)), store, identity=identity)


def default_path(store_url: str) -> Path:
    """`registry.git` beside a store in a folder; in `.imagewright` of the working folder for any other store."""
    if store_url.startswith("file://"):
        return Path(store_url.removeprefix("file://")).absolute().parent / "registry.git"
    return DEFAULT_FOLDER.absolute() / "registry.git"


def registry_from_environment(store: Store) -> DataRegistry:
    """The registry a job commits to: IMAGEWRIGHT_REGISTRY_URL, or the default one.

    Inside a pipeline run (IMAGEWRIGHT_PIPELINE_RUN) nobody's git identity is at hand, so the commit is Imagewright's own unless
    GIT_AUTHOR_NAME and GIT_AUTHOR_EMAIL say whose it is.
    """
    in_pipeline = bool(os.environ.get("IMAGEWRIGHT_PIPELINE_RUN")) and not os.environ.get("GIT_AUTHOR_EMAIL")
    return open_registry(os.environ.get("IMAGEWRIGHT_REGISTRY_URL") or None, store, identity=JOB_IDENTITY if in_pipeline else None)
