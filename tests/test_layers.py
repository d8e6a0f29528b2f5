"""The four rings of the architecture: imports point one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "imagewright"
HEAVY = {"torch", "mlflow", "diffusers", "transformers", "kfp", "pandas", "deepspeed", "peft"}


def imports(path: Path, module_scope_only: bool) -> Iterator[str]:
    """Dotted names a file imports; imports under TYPE_CHECKING do not count."""
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if module_scope_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the layer they cross"
            yield node.module or ""
        pending.extend(ast.iter_child_nodes(node))


def top(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


def files(folder: Path) -> list[Path]:
    found = sorted(folder.rglob("*.py"))
    return [path for path in found if "__pycache__" not in path.parts]


def violations(folder: Path, forbidden: set[str], module_scope_only: bool = False) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files(folder)
        for name in imports(path, module_scope_only)
        if top(name) in forbidden or any(name == rule or name.startswith(rule + ".") for rule in forbidden)
    ]


def test_the_library_never_imports_components_or_pipelines() -> None:
    assert violations(SOURCE, {"imagewright_components", "imagewright_pipelines", "components", "pipelines"}) == []


def test_kfp_is_imported_in_launch_only() -> None:
    assert [line for line in violations(SOURCE, {"kfp", "kfp_server_api", "kfp_kubernetes"}) if "imagewright/launch/" not in line] == []


def test_mlflow_is_imported_in_tracking_only() -> None:
    assert [line for line in violations(SOURCE, {"mlflow"}) if "imagewright/tracking/" not in line] == []


@pytest.mark.parametrize("package", ["jobs", "config", "storage", "cli"])
def test_nothing_heavy_is_imported_before_a_job_knows_it_must_run(package: str) -> None:
    assert violations(SOURCE / package, HEAVY, module_scope_only=True) == []


def test_components_import_kfp_only_and_call_jobs_inside() -> None:
    allowed = {"kfp", "__future__", "imagewright_components", "typing"}
    found = [(path, top(name)) for path in files(ROOT / "components") for name in imports(path, module_scope_only=True)]
    assert [(str(path), name) for path, name in found if name not in allowed] == []


def test_pipelines_import_components_and_config_only() -> None:
    allowed = {"kfp", "__future__", "collections", "typing", "imagewright_components", "imagewright_pipelines"}
    found = [(path, name) for path in files(ROOT / "pipelines") for name in imports(path, module_scope_only=False)]
    assert [(str(path), name) for path, name in found if top(name) not in allowed and not name.startswith("imagewright.config")] == []


@pytest.mark.parametrize("folder", [SOURCE, ROOT / "components", ROOT / "pipelines"], ids=lambda folder: folder.name)
def test_files_and_functions_stay_short(folder: Path) -> None:
    long_files = [(path.name, count) for path in files(folder) if (count := len(path.read_text(encoding="utf-8").splitlines())) > 400]
    assert long_files == []
    long_functions = [
        (path.name, node.name, length)
        for path in files(folder)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (length := (node.end_lineno or 0) - node.lineno + 1) > 50
    ]
    assert long_functions == []


def test_no_module_name_says_nothing() -> None:
    empty = {"util", "utils", "helper", "helpers", "common", "misc"}
    assert [path.name for path in files(SOURCE) if path.stem in empty] == []
