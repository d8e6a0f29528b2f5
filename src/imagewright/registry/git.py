"""Runs git for the registry: argument lists, bounded time, no prompts, nobody's hooks; failures in the error grammar."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imagewright.errors import Problem
from imagewright.registry.names import RegistryError

GIT_TIMEOUT_SECONDS = 120.0
MAX_ERROR_CHARS = 600
MAX_OUTPUT_BYTES = 256 << 20
# What a person's environment may still say: identity, how to reach a server, where configuration lies. Everything else named GIT_*
# (GIT_DIR, GIT_INDEX_FILE, ...) would point our commands at some other repository.
KEPT_VARIABLES = re.compile(r"GIT_(AUTHOR_|COMMITTER_|SSH|SSL_|HTTP_|CONFIG|ASKPASS|PROXY|EXEC_PATH)")
SETTINGS = (
    "core.hooksPath=/dev/null",  # a person's hooks are not part of a registry commit
    "core.fsmonitor=false",  # its value can name a program
    "protocol.ext.allow=never",  # ext:: URLs run a command
    "commit.gpgSign=false",
    "tag.gpgSign=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=30",
    "user.useConfigOnly=true",  # no identity guessed from the host name
)
CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
UNREACHABLE = re.compile(
    r"could not resolve host|connection (refused|timed out|reset)|network is unreachable|no route to host|failed to connect|timed out"
    r"|operation too slow|could not read from remote|unexpected disconnect|hung up|the requested url returned error: 5",
    re.IGNORECASE,
)
DENIED = re.compile(
    r"permission denied|authentication failed|could not read (username|password)|returned error: 40[13]"
    r"|read-only file system|insufficient permission",
    re.IGNORECASE,
)
NOT_A_REPOSITORY = re.compile(
    r"does not appear to be a git repository|not a git repository|repository .* (not found|does not exist)|returned error: 404"
    r"|not valid: is this a git repository|unable to find remote helper|protocol .* is not supported|transport .* not allowed",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class GitResult:
    """What one git command left behind."""

    returncode: int
    output: bytes
    error: str
    timed_out: bool = False

    @property
    def text(self) -> str:
        return self.output.decode("utf-8", "replace")


class GitError(RegistryError):
    """A git command failed; `passing` is true when trying again can help."""

    def __init__(self, problem: Problem, *, passing: bool = False) -> None:
        super().__init__(problem)
        self.passing = passing


def redact(text: str) -> str:
    """Takes credentials out of URLs."""
    return CREDENTIALS.sub("***@", text)


def git_environment() -> dict[str, str]:
    """The environment git runs in: no prompts, C locale, no variable that points at another repository."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_") or KEPT_VARIABLES.match(key)}
    kept.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o ConnectTimeout=20")
    return {**kept, "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "SSH_ASKPASS_REQUIRE": "never", "LC_ALL": "C"}


def run_git(
    arguments: Sequence[str],
    folder: Path,
    *,
    data: bytes | None = None,
    timeout_seconds: float = GIT_TIMEOUT_SECONDS,
    keep_open: Sequence[int] = (),
) -> GitResult:
    """Runs one git command in `folder` and returns its result, whatever its exit status.

    The command is its own process group: it is stopped as a whole when the time is over or we are interrupted.
    keep_open: file descriptors the command inherits (a lock that must outlive us while the command runs).
    """
    options = [part for setting in SETTINGS for part in ("-c", setting)]
    try:
        process = subprocess.Popen(
            ["git", *options, *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL if data is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=git_environment(),
            start_new_session=True,
            pass_fds=tuple(keep_open),
        )
    except FileNotFoundError as error:
        raise RegistryError(Problem("registry", "needs git on the PATH", None, "install git")) from error
    try:
        output, error_bytes = process.communicate(data, timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        return GitResult(-1, b"", f"no answer within {timeout_seconds:.0f} s: timed out", timed_out=True)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return GitResult(process.returncode, output, redact(error_bytes.decode("utf-8", "replace")))


def checked_git(arguments: Sequence[str], folder: Path, url: str, *, data: bytes | None = None) -> GitResult:
    """Runs git and raises GitError, in terms of the registry's `url`, when it fails."""
    result = run_git(arguments, folder, data=data)
    if result.returncode != 0:
        raise failure(result, url)
    return result


def failure(result: GitResult, url: str) -> GitError:
    """Turns a failed command into the error a person can act on."""
    said = last_words(result.error)
    shown = redact(url)
    if DENIED.search(result.error):
        return GitError(Problem("registry.url", f"refuses access: {said}", shown, "check the credentials and the rights on the repository"))
    if NOT_A_REPOSITORY.search(result.error):
        fix = "give a git URL or a bare repository; make one with: git init --bare PATH"
        return GitError(Problem("registry.url", "must be a git repository", shown, fix))
    if result.timed_out or UNREACHABLE.search(result.error):
        return GitError(Problem("registry.url", f"cannot be reached: {said}", shown, "check the network and the address"), passing=True)
    if "empty ident" in result.error or "auto-detection is disabled" in result.error:
        return missing_identity()
    return GitError(Problem("registry", f"git failed: {said}", shown, "run git in that repository to see more"))


def missing_identity() -> GitError:
    """The error for a person without a git name and address."""
    fix = 'run: git config --global user.name "Your Name"; git config --global user.email you@example.com'
    return GitError(Problem("registry.identity", "git must know who commits (user.name and user.email)", None, fix))


def last_words(error: str) -> str:
    """The lines of git's message that say what went wrong, on one line."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith(("fatal:", "error:", "remote:", "!"))]
    return "; ".join(fatal or lines)[:MAX_ERROR_CHARS] or "no message"
