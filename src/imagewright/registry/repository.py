"""Where the registry's git repository lies: made when missing, found behind a URL or a person's clean clone, locked while pushed to."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from imagewright.errors import Problem
from imagewright.registry.git import checked_git, missing_identity, redact, run_git
from imagewright.registry.names import RegistryError

BRANCH = "main"
IDENTITY = re.compile(r"([^<>\n\0]+) <([^<>\n\0]+)>")
REMOTE_URL = re.compile(r"(https?|ssh|git)://[^-].*|[A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+:.+")
LOCK_NAME = "imagewright-commit.lock"
LOCK_WAIT_SECONDS = 60.0
STALE_LOCK_SECONDS = 3.0


def create_repository(path: Path) -> Path:
    """Makes an empty registry at `path` unless there is one; two at the same time end with one, a killed one leaves nothing."""
    if (path / "HEAD").is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.parent / f".{path.name}.{uuid.uuid4().hex}"
    try:
        checked_git(["init", "--quiet", "--bare", f"--initial-branch={BRANCH}", "--template=", str(fresh)], path.parent, str(path))
        # hooksPath: only hooks put into this repository run here, not the global ones of whoever pushes. autoDetach: housekeeping never
        # outlives the push that started it. fsync: a tag that was published survives a power cut.
        for setting in (
            "core.hooksPath=hooks",
            "gc.autoDetach=false",
            "core.fsync=committed,loose-object,reference",
            "uploadpack.allowFilter=true",
        ):
            checked_git(["config", *setting.split("=", 1)], fresh, str(path))
        with contextlib.suppress(OSError):  # somebody else was first: theirs is as good
            fresh.rename(path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return path


def resolve_url(url: str) -> tuple[str, Path | None]:
    """The repository behind what a person gave: (URL or absolute path, its git directory when it is local).

    A work tree stands for its `origin`, once nothing in it is uncommitted or ahead. Raises RegistryError when there is no repository.
    """
    if not url or url.startswith("-") or "\n" in url or "::" in url:
        raise RegistryError(
            Problem("registry.url", "must be a git URL or the path of a repository", redact(url), "give https://, ssh:// or a path")
        )
    if REMOTE_URL.fullmatch(url) and not url.startswith("file://"):
        return url, None
    path = Path(unquote(urlsplit(url).path) if url.startswith("file://") else url).expanduser().absolute()
    if not path.is_dir():
        fix = "check the path, or make a registry there with: git init --bare --initial-branch=main PATH"
        raise RegistryError(Problem("registry.url", "must be the path of a git repository", str(path), fix))
    # --git-dir is checked against the path so that a plain folder inside some other work tree is not taken for a registry.
    found = run_git(["rev-parse", "--is-bare-repository", "--absolute-git-dir", "--show-toplevel"], path)
    said = found.text.splitlines()
    if said[:1] == ["true"] and Path(said[1]) == path.resolve():
        return str(path), path
    if found.returncode == 0 and said[0] == "false" and Path(said[2]) == path.resolve():
        return resolve_url(origin_of(path))
    if "dubious ownership" in found.error:
        fix = f"run: git config --global --add safe.directory {path}"
        raise RegistryError(Problem("registry.url", "belongs to another user", str(path), fix))
    raise RegistryError(
        Problem(
            "registry.url", "must be the top of a git repository", str(path), "make one with: git init --bare --initial-branch=main PATH"
        )
    )


def origin_of(clone: Path) -> str:
    """The URL a person's clone was made from. Raises RegistryError, with every problem, when the clone holds what origin does not."""
    origin = run_git(["remote", "get-url", "origin"], clone)
    if origin.returncode != 0:
        fix = "give a bare repository: git clone --bare PATH PATH.git"
        raise RegistryError(Problem("registry.url", "is a work tree without a remote, which commits cannot be pushed to", str(clone), fix))
    problems = []
    changed = checked_git(["status", "--porcelain"], clone, str(clone)).text.splitlines()
    if changed:
        shown = ", ".join(line[3:] for line in changed[:5])
        problems.append(Problem("registry.clone", "must hold no uncommitted changes", shown, "commit and push them, or git stash"))
    counts = run_git(["rev-list", "--left-right", "--count", "@{upstream}...HEAD"], clone)
    behind, ahead = (int(part) for part in counts.text.split()) if counts.returncode == 0 else (0, 0)
    if ahead:
        rule = "has diverged from its upstream" if behind else "holds commits that were not pushed"
        fix = "git pull --rebase, then git push" if behind else "git push"
        problems.append(Problem("registry.clone", rule, f"{ahead} ahead, {behind} behind", fix))
    if problems:
        raise RegistryError(problems)
    url = origin.text.strip()
    local = not REMOTE_URL.fullmatch(url)
    return str((clone / url).resolve()) if local else url


def own_identity(folder: Path) -> str:
    """`Name <mail>` from git's own configuration or GIT_AUTHOR_*. Raises GitError when git knows none."""
    said = run_git(["var", "GIT_AUTHOR_IDENT"], folder)
    match = IDENTITY.match(said.text)
    if said.returncode != 0 or not match:
        raise missing_identity()
    return match[0]


@contextlib.contextmanager
def commit_lock(local: Path | None) -> Iterator[int | None]:
    """Lines up committers to a registry on this machine; yields the lock's file descriptor, None where there is no lock.

    The lock saves rejected pushes; the push itself stays what decides, so going on without it (a remote registry, a holder that
    hangs, a file system without locks) is safe.
    """
    if local is None:
        yield None
        return
    try:
        descriptor = os.open(local / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        rule = f"must be writable: {error.strerror}"
        raise RegistryError(Problem("registry.url", rule, str(local), "check the owner and mode of the repository")) from error
    try:
        held = take_lock(descriptor, time.monotonic() + LOCK_WAIT_SECONDS)
        if held:
            remove_stale_locks(local)
        yield descriptor if held else None
    finally:
        os.close(descriptor)


def take_lock(descriptor: int, deadline: float) -> bool:
    """Waits for the exclusive lock; False when the deadline passed or the file system has no locks."""
    while time.monotonic() < deadline:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(random.uniform(0.002, 0.05))
        except OSError:
            return False
        else:
            return True
    return False


def remove_stale_locks(local: Path) -> None:
    """Removes the reference locks of a push that was killed; git never would, and every later push would fail.

    Called with the commit lock held, so no push of ours is under way; the age spares a plain `git push`, which holds them for milliseconds.
    """
    now = time.time()
    # HEAD is locked together with the branch it names.
    for lock in [local / "HEAD.lock", local / "packed-refs.lock", *local.glob("refs/**/*.lock")]:
        with contextlib.suppress(FileNotFoundError):
            if now - lock.stat().st_mtime > STALE_LOCK_SECONDS:
                lock.unlink()
