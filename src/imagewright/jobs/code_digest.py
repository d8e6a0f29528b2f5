"""Digest of the code a job runs: its module and everything of ours it imports, found without importing any of it.

A change anywhere in that closure changes the action key; a change elsewhere does not.
"""

from __future__ import annotations

import ast
import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

PACKAGE = "imagewright"
MAX_INDEX_BYTES = 16 << 20
# These move, record or display bytes and never change them; the configuration's values are in the key themselves.
INFRASTRUCTURE = (
    "imagewright.cli",
    "imagewright.config.recipe",
    "imagewright.config.tree",
    "imagewright.errors",
    "imagewright.jobs.job",
    "imagewright.storage",
    "imagewright.tracking",
)


def package_root() -> Path:
    """Folder that holds the `imagewright` package."""
    return Path(__file__).resolve().parents[2]


class ImportIndex:
    """What sources import, kept on disk by the digest of their bytes, so that only a changed file is parsed again."""

    def __init__(self, path: Path | None = None) -> None:
        """path: where it is kept; None keeps nothing. A file that cannot be read counts as empty."""
        self.path = path
        self.known: dict[str, list[str]] = {}
        self.digests: dict[Path, str] = {}
        self.changed = False
        if path is not None and path.is_file() and path.stat().st_size <= MAX_INDEX_BYTES:
            try:
                self.known = {str(digest): [str(name) for name in names] for digest, names in json.loads(path.read_bytes()).items()}
            except (ValueError, AttributeError, TypeError):
                self.known = {}

    def imports_of(self, path: Path) -> list[str]:
        """Every module of ours that a file imports."""
        source = path.read_bytes()
        digest = self.digests[path] = hashlib.sha256(source).hexdigest()
        if digest not in self.known:
            self.known[digest] = list(imports_in(source))
            self.changed = True
        return self.known[digest]

    def digest_of(self, path: Path) -> str:
        """SHA-256 of a file; each is read once."""
        if path not in self.digests:
            self.digests[path] = hashlib.sha256(path.read_bytes()).hexdigest()
        return self.digests[path]

    def save(self) -> None:
        """Replaces the file in one rename; of two writers the last one's entries stay, and nothing else is lost than time."""
        if self.path is not None and self.changed:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_suffix(f".{uuid.uuid4().hex}.tmp")  # processes that share the folder may share a pid, in containers
            temporary.write_text(json.dumps(self.known), encoding="utf-8")
            temporary.replace(self.path)


def code_digest(job_file: Path, section_modules: Iterable[str] = (), root: Path | None = None, index_file: Path | None = None) -> str:
    """SHA-256 over a job's own file, everything of ours it imports, and the modules that define its config sections.

    index_file: where the imports of every file seen are kept for the next call.
    """
    base = root or package_root()
    index = ImportIndex(index_file)
    reached = closure([*index.imports_of(job_file), *section_modules], base, index)
    digest = hashlib.sha256()
    digest.update(bytes.fromhex(index.digest_of(job_file)))
    for path in sorted(reached):
        digest.update(path.relative_to(base).as_posix().encode() + b"\0" + bytes.fromhex(index.digest_of(path)))
    index.save()
    return digest.hexdigest()


def closure(modules: Iterable[str], root: Path, index: ImportIndex) -> set[Path]:
    """Source and data files reachable from `modules` by import statements, infrastructure left out."""
    found: set[Path] = set()
    pending = list(modules)
    seen: set[str] = set()
    folders: set[Path] = set()
    while pending:
        module = pending.pop()
        if module in seen or is_infrastructure(module):
            continue
        seen.add(module)
        path = module_file(module, root)
        if path is None:
            continue
        found.add(path)
        if path.parent not in folders:
            folders.add(path.parent)
            found.update(data_files(path.parent))
        parent = module.rpartition(".")[0]
        if parent:
            pending.append(parent)
        pending.extend(index.imports_of(path))
    return found


def is_infrastructure(module: str) -> bool:
    """True for modules that cannot change what a job computes."""
    return any(module == name or module.startswith(name + ".") for name in INFRASTRUCTURE)


def module_file(module: str, root: Path) -> Path | None:
    """File of a dotted module name; None when the name is an attribute or not ours."""
    if module.split(".", maxsplit=1)[0] != PACKAGE:
        return None
    path = root.joinpath(*module.split("."))
    if path.with_suffix(".py").is_file():
        return path.with_suffix(".py")
    package = path / "__init__.py"
    return package if package.is_file() else None


def data_files(folder: Path) -> Iterator[Path]:
    """Templates, palettes and word lists beside a module; the package's own top folder and the recipes hold none that jobs read."""
    if folder.name not in {PACKAGE, "recipes", "jobs"}:
        yield from (path for path in folder.rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"})


def imports_in(source: bytes) -> tuple[str, ...]:
    """Every module of ours that a source imports anywhere, except under `if TYPE_CHECKING`."""
    names: list[str] = []
    pending: list[ast.AST] = [ast.parse(source)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            pending.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.append(node.module)
            names.extend(f"{node.module}.{alias.name}" for alias in node.names)
        pending.extend(ast.iter_child_nodes(node))
    return tuple(name for name in names if name.split(".")[0] == PACKAGE)
