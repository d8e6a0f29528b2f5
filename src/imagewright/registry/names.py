"""How datasets and their revisions are named: `curated@v3`, tags in the registry's git repository."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from imagewright.errors import InputError, Problem

NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")
REVISION = re.compile(r"v([1-9][0-9]{0,8})")
MAX_NAME_CHARS = 64
LATEST = "latest"
NAME_FIX = "use a lower-case letter, then letters, digits and single - or _ between them, as in curated-256"
RESERVED_NAMES = frozenset({"con", "prn", "aux", "nul"})


class RegistryError(InputError):
    """Something wrong with a dataset name, a revision or the registry itself."""


@dataclass(frozen=True)
class Revision:
    """One committed revision of a dataset."""

    name: str
    version: int
    digest: str
    """SHA-256 of the payload in the store."""
    commit: str
    """Git commit that the tag points at."""
    message: str
    author: str
    committed_at: str
    """UTC, ISO 8601."""
    num_files: int
    size_bytes: int

    def __str__(self) -> str:
        return f"{self.name}@v{self.version}"


def check_name(name: str) -> str:
    """Returns the dataset name. Raises RegistryError when it does not follow the pattern."""
    if len(name) <= MAX_NAME_CHARS and NAME.fullmatch(name) and name not in RESERVED_NAMES:
        return name
    raise RegistryError(Problem("registry.name", f"must be a dataset name of at most {MAX_NAME_CHARS} characters", name, NAME_FIX))


def parse_revision(text: str) -> tuple[str, int | None]:
    """Splits `name`, `name@latest` or `name@v3` into the name and the version; None means the latest.

    Raises RegistryError when either part is malformed.
    """
    name, _, revision = text.partition("@")
    check_name(name)
    if "@" not in text or revision == LATEST:
        return name, None
    match = REVISION.fullmatch(revision)
    if not match:
        raise RegistryError(
            Problem("registry.revision", "must be name, name@latest or name@v<number>", text, f"write {name}@v1 for the first")
        )
    return name, int(match[1])


def unknown_name(name: str, known: Iterable[str]) -> RegistryError:
    """The error for a dataset that the registry does not hold, with the nearest names."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        fix = "did you mean " + " or ".join(near) + "?"
    elif names:
        fix = "the registry holds " + ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    else:
        fix = "the registry is empty; commit a dataset first"
    return RegistryError(Problem("registry.name", "names no dataset of the registry", name, fix))


def unknown_version(name: str, version: int, known: Iterable[int]) -> RegistryError:
    """The error for a revision that a dataset does not have, with the nearest ones."""
    near = sorted(sorted(known), key=lambda other: abs(other - version))[:3]
    fix = "nearest revisions: " + ", ".join(f"{name}@v{other}" for other in near)
    return RegistryError(Problem("registry.revision", "names no revision of the dataset", f"{name}@v{version}", fix))
