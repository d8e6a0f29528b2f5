"""The data registry: `commit` names a stored payload `name@v<n>` for good, `resolve` finds it again, `checkout` brings it back."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from imagewright.errors import Problem
from imagewright.registry import pointers
from imagewright.registry.difference import Difference, compare
from imagewright.registry.names import RegistryError, Revision, check_name, parse_revision, unknown_name, unknown_version
from imagewright.registry.private_clone import list_references, private_clone
from imagewright.registry.publication import Publication, publish
from imagewright.registry.repository import IDENTITY, create_repository, own_identity, resolve_url

if TYPE_CHECKING:
    from imagewright.storage.store import Store
    from imagewright.storage.tree import TreeEntry

JOB_IDENTITY = "Imagewright <imagewright@localhost>"
DEFAULT_FOLDER = Path(".imagewright")
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
        publication = Publication(name, digest, files, message, identity, pointers.dvc_remote(self.store.url))
        return publish(publication, self.url, self._local)

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
            clone.fetch()
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

    def remove_samples(self, name: str, keys: Collection[str], reason: str) -> str:
        """Publishes the latest revision without some samples, in manifests and shards; returns the new revision.

        Earlier revisions still name the samples until their tags are deleted and garbage is collected. Raises RegistryError when a key
        is in no manifest of the dataset, or in a file it cannot be taken out of.
        """
        checked_message(reason)
        if not keys or not all(keys):
            raise RegistryError(Problem("takedown.keys", "must name at least one sample", list(keys), "give the sample keys to remove"))
        from imagewright.registry.takedown import remove_from_folder

        latest = self.resolve(name)
        with tempfile.TemporaryDirectory(prefix="imagewright-takedown-") as folder:
            payload = Path(folder) / "payload"
            self.store.get(latest.digest, payload)
            num_rows = remove_from_folder(payload, set(keys), latest.version)
            return self.commit(name, payload, f"Remove {len(set(keys))} samples ({num_rows} rows) from {latest}\n\n{reason}")

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
    """The registry of this process: IMAGEWRIGHT_REGISTRY_URL, or the default one.

    Inside a pipeline run (IMAGEWRIGHT_PIPELINE_RUN) nobody's git identity is at hand, so the commit is Imagewright's own unless
    GIT_AUTHOR_NAME and GIT_AUTHOR_EMAIL say whose it is.
    """
    in_pipeline = bool(os.environ.get("IMAGEWRIGHT_PIPELINE_RUN")) and not os.environ.get("GIT_AUTHOR_EMAIL")
    return open_registry(os.environ.get("IMAGEWRIGHT_REGISTRY_URL") or None, store, identity=JOB_IDENTITY if in_pipeline else None)
