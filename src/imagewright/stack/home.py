"""The folder that holds all state of the local stack: credentials, server data, logs, process records and the lock."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imagewright.errors import Problem
from imagewright.stack.errors import StackError

HOME_VARIABLE = "IMAGEWRIGHT_HOME"
DEFAULT_HOME = ".imagewright"
STACK_FOLDER = "stack"
MIN_FREE_BYTES = 256 * 2**20
LOCK_TIMEOUT_SECONDS = 600.0  # longer than the slowest start
LOCK_POLL_SECONDS = 0.1
PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


def find_home(given: Path | None = None) -> Path:
    """Return the folder of everything local: the given one, else `IMAGEWRIGHT_HOME`, else `.imagewright` in the current folder."""
    return Path(given or os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).expanduser().resolve()


@dataclass(frozen=True)
class Credentials:
    """The one S3 identity of the stack, drawn at random when the home is made."""

    access_key: str
    secret_key: str

    def __repr__(self) -> str:
        return f"Credentials(access_key={self.access_key!r}, secret_key='[hidden]')"


@dataclass(frozen=True)
class Home:
    """Paths below the state folder of one stack."""

    path: Path

    @staticmethod
    def of(home: Path | None = None) -> Home:
        """The stack's state lies in a folder `stack` of the home; see `find_home`."""
        return Home(find_home(home) / STACK_FOLDER)

    @property
    def credentials_file(self) -> Path:
        return self.path / "credentials.json"

    @property
    def identities_file(self) -> Path:
        """The S3 server's own access configuration, written from the credentials."""
        return self.path / "s3-identities.json"

    @property
    def registry(self) -> Path:
        """Bare git repository of the data registry."""
        return self.path / "registry.git"

    def data(self, service: str) -> Path:
        return self.path / service

    def log(self, service: str) -> Path:
        return self.path / "logs" / f"{service}.log"

    def record(self, service: str) -> Path:
        return self.path / "run" / f"{service}.json"

    def prepare(self) -> None:
        """Make folders, credentials and the registry repository where they are missing; what exists is kept.

        Raises StackError when the folder cannot be written, the disk is full, or git is missing.
        """
        try:
            for folder in (self.path, self.data("s3"), self.data("mlflow"), self.path / "logs", self.path / "run"):
                folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            free = shutil.disk_usage(self.path).free
            if free < MIN_FREE_BYTES:
                raise StackError(
                    Problem("stack.home", f"needs {MIN_FREE_BYTES} free bytes on its disk", free, "free disk space or choose --home")
                )
            (self.path / ".gitignore").write_text("*\n", encoding="utf-8")
            if not self.credentials_file.exists():
                drawn = {"access_key": f"imagewright-{secrets.token_hex(4)}", "secret_key": secrets.token_urlsafe(32)}
                write_private(self.credentials_file, drawn)
            self._write_identities(self.credentials())
            if not (self.registry / "HEAD").exists():
                self._init_registry()
        except OSError as error:
            fix = "free disk space or choose a writable folder with --home"
            raise StackError(Problem("stack.home", f"cannot be written ({error.strerror})", str(self.path), fix)) from error

    def credentials(self) -> Credentials:
        """Read the credentials; raises StackError when there are none yet or the file is damaged."""
        try:
            content = json.loads(self.credentials_file.read_text(encoding="utf-8"))
            return Credentials(access_key=str(content["access_key"]), secret_key=str(content["secret_key"]))
        except FileNotFoundError as error:
            raise StackError(Problem("stack.home", "holds no local stack", str(self.path), "start one: imagewright up")) from error
        except (ValueError, KeyError, TypeError) as error:
            fix = "restore the file, or delete it and run `imagewright up` for new credentials"
            raise StackError(Problem("stack.credentials", "is not readable JSON", str(self.credentials_file), fix)) from error

    @contextmanager
    def locked(self, timeout_seconds: float = LOCK_TIMEOUT_SECONDS) -> Iterator[None]:
        """Hold the home for one start or stop; the kernel releases the lock when its holder dies. Raises StackError after the timeout."""
        try:
            self.path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        except OSError as error:
            fix = "choose a writable folder with --home"
            raise StackError(Problem("stack.home", f"cannot be written ({error.strerror})", str(self.path), fix)) from error
        try:
            deadline = time.monotonic() + timeout_seconds
            while not _try_lock(descriptor):
                if time.monotonic() >= deadline:
                    fix = "wait for the other `imagewright up` or `down`, or end it"
                    raise StackError(Problem("stack.lock", "is held by another command", str(self.path / "lock"), fix))
                time.sleep(LOCK_POLL_SECONDS)
            yield
        finally:
            os.close(descriptor)

    def _write_identities(self, credentials: Credentials) -> None:
        identity = {
            "name": "imagewright",
            "credentials": [{"accessKey": credentials.access_key, "secretKey": credentials.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        write_private(self.identities_file, {"identities": [identity]})

    def _init_registry(self) -> None:
        from imagewright.registry.names import RegistryError
        from imagewright.registry.repository import create_repository

        try:
            create_repository(self.registry)
        except RegistryError as error:
            raise StackError(error.problems) from error


def write_private(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON atomically with mode 0600: a reader sees the old file or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
