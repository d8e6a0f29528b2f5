"""A private temporary clone of the registry: reads revisions from tags, publishes a commit as one atomic push of branch and tag."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from imagewright.errors import Problem
from imagewright.registry.git import GitError, checked_git, failure, last_words, redact, run_git
from imagewright.registry.names import Revision
from imagewright.registry.repository import BRANCH

TRAILERS = re.compile(r"Revision: ([a-z0-9_-]+)@v([1-9][0-9]{0,8})\nDigest: ([0-9a-f]{64})\nFiles: ([0-9]{1,12})\nBytes: ([0-9]{1,20})")
MAX_FETCHED_FILE = "32k"
FOLDER_PREFIX = "imagewright-registry-"
KEPT_AFTER_KILL_SECONDS = 24 * 3600.0
# One entry per reference; the message is last because only it may hold newlines.
REFERENCE_FORMAT = "%(refname)%00%(objectname)%00%(authorname)%00%(committerdate:unix)%00%(contents)%01"
COMMIT_FORMAT = "x%x00%H%x00%an%x00%ct%x00%B%x01"


@dataclass(frozen=True)
class RevisionCommit:
    """What one commit publishes: files by path, and the revision the tag names."""

    name: str
    version: int
    files: Mapping[str, bytes]
    message: str


class PrivateClone:
    """A temporary bare repository of our own: fetched from the registry, committed to, pushed from, and thrown away."""

    def __init__(self, folder: Path, url: str, local: Path | None) -> None:
        self.folder, self.url, self.branch, self.tip = folder, url, BRANCH, ""
        self.revisions: list[Revision] = []
        self.tags: set[str] = set()
        self.receiver: list[str] = []
        self.rejection = ""
        checked_git(["init", "--quiet", "--bare", f"--initial-branch={BRANCH}", "--template=", "."], folder, url)
        if local:
            # Objects are read where they are, so a clone of a local registry copies nothing.
            objects = checked_git(["rev-parse", "--git-path", "objects"], local, url).text.strip()
            (folder / "objects" / "info").mkdir(exist_ok=True)
            (folder / "objects" / "info" / "alternates").write_text(f"{local / objects}\n", encoding="utf-8")
            self.branch = run_git(["symbolic-ref", "--short", "HEAD"], local).text.strip() or BRANCH
            if run_git(["config", "--local", "core.hooksPath"], local).returncode != 0:
                # The receiving side runs here too: the registry's own hooks shall run there, not the global ones of whoever pushes.
                self.receiver = ["--receive-pack=git -c core.hooksPath=hooks receive-pack"]

    def fetch(self) -> None:
        """Makes branch and tags equal to the registry's, and reads them."""
        references = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
        arguments = ["fetch", "--quiet", "--prune", "--no-tags", "--no-auto-gc", "--no-write-fetch-head", "--update-head-ok"]
        # Long file lists of old revisions stay on the server (one that cannot filter sends everything).
        checked_git([*arguments, f"--filter=blob:limit={MAX_FETCHED_FILE}", "--", self.url, *references], self.folder, self.url)
        heads, self.revisions, self.tags = list_references(self.folder, self.url)
        if len(heads) == 1:
            self.branch = next(iter(heads))
        self.tip = heads.get(self.branch, "")

    def untagged(self) -> list[Revision]:
        """Commits on the branch whose tag is missing: their push was cut off between the two references."""
        if not self.tip or any(revision.commit == self.tip for revision in self.revisions):
            return []
        arguments = ["log", "--max-count=100", f"--format={COMMIT_FORMAT}", self.tip, "--not", "--tags"]
        said = checked_git(arguments, self.folder, self.url)
        found = (parse_commit(part) for part in said.text.split("\x01"))
        return [revision for revision in found if revision]

    def read(self, path: str) -> bytes:
        """A file on the branch; empty when there is none."""
        said = run_git(["cat-file", "blob", f"{self.tip}:{path}"], self.folder)
        return said.output if said.returncode == 0 else b""

    def add(self, commit: RevisionCommit, identity: str) -> str:
        """Makes the commit on top of the branch, with its tag; returns its id."""
        now = int(datetime.now(UTC).timestamp())
        message = commit.message.encode("utf-8")
        stream = [f"commit refs/heads/{self.branch}\nmark :1\nauthor {identity} {now} +0000\ncommitter {identity} {now} +0000\n".encode()]
        stream.append(b"data %d\n%s\n" % (len(message), message))
        if self.tip:
            stream.append(f"from {self.tip}\n".encode())
        for path, content in commit.files.items():
            stream.append(b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(content), content))
        stream.append(f"\nreset {tag_reference(commit.name, commit.version)}\nfrom :1\n\nget-mark :1\ndone\n".encode())
        made = checked_git(["fast-import", "--quiet", "--done", "--date-format=raw"], self.folder, self.url, data=b"".join(stream))
        return made.text.strip()

    def push(self, references: Mapping[str, str], lock: int | None) -> bool:
        """Pushes commits to references, all or none. False when somebody else was first and it is worth another try.

        The registry's lock (a file descriptor) stays held by git itself, so it outlives us if we are killed.
        """
        pairs = [f"{commit}:{reference}" for reference, commit in references.items()]
        options = ["--porcelain", "--atomic", "--no-verify", "--no-follow-tags", "--recurse-submodules=no"]
        result = run_git(["push", *options, *self.receiver, "--", self.url, *pairs], self.folder, keep_open=[] if lock is None else [lock])
        if result.returncode == 0:
            return True
        refused = [line for line in result.text.splitlines() if line.startswith("!")]
        for_good = re.search(r"hook declined|deny|protected|prohibited|unauthori[sz]ed", result.text + result.error)
        said = "; ".join(line.replace("\t", " ") for line in refused)
        if refused and not for_good:
            self.rejection = f"{said}; {last_words(result.error)}"
            return False
        if refused:
            fix = f"ask its owner for the right to push branch {self.branch} and tags"
            raise GitError(Problem("registry.url", f"refuses the commit: {said}", redact(self.url), fix))
        raise failure(result, self.url)


@contextlib.contextmanager
def private_clone(url: str, local: Path | None) -> Iterator[PrivateClone]:
    """A PrivateClone, not fetched yet, that is removed afterwards; those that killed commits left a day ago go too."""
    for left in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > KEPT_AFTER_KILL_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX, ignore_cleanup_errors=True) as folder:
        yield PrivateClone(Path(folder), url, local)


def tag_reference(name: str, version: int) -> str:
    """Full name of a revision's tag."""
    return f"refs/tags/{name}@v{version}"


def commit_message(subject: str, name: str, version: int, digest: str, num_files: int, size_bytes: int) -> str:
    """A person's message with the trailers that `list_revisions` reads; the last paragraph is always ours."""
    return f"{subject.strip()}\n\nRevision: {name}@v{version}\nDigest: {digest}\nFiles: {num_files}\nBytes: {size_bytes}\n"


def list_references(folder: Path, url: str) -> tuple[dict[str, str], list[Revision], set[str]]:
    """Branches with their commits, every revision that a tag names by name and version, and all tags, also those of other kinds."""
    said = checked_git(["for-each-ref", f"--format={REFERENCE_FORMAT}", "refs/heads", "refs/tags"], folder, url)
    heads, revisions, tags = {}, [], set()
    for part in said.text.split("\x01"):
        reference, _, rest = part.strip("\n").partition("\x00")
        if reference.startswith("refs/heads/"):
            heads[reference.removeprefix("refs/heads/")] = rest.partition("\x00")[0]
        elif reference:
            tags.add(reference)
            revision = parse_commit(part)
            if revision and reference == tag_reference(revision.name, revision.version):
                revisions.append(revision)
    return heads, sorted(revisions, key=lambda revision: (revision.name, revision.version)), tags


def parse_commit(part: str) -> Revision | None:
    """A Revision from `reference NUL commit NUL author NUL seconds NUL message`; None when the commit is not one of ours."""
    fields = part.lstrip("\n").split("\x00", 4)
    if len(fields) != 5 or not fields[3].isdigit():
        return None
    body, _, last = fields[4].rstrip("\n").rpartition("\n\n")
    trailers = TRAILERS.fullmatch(last)
    if not trailers:
        return None
    name, version, digest, num_files, size_bytes = trailers.groups()
    when = datetime.fromtimestamp(int(fields[3]), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return Revision(name, int(version), digest, fields[1], body.strip(), fields[2], when, int(num_files), int(size_bytes))
