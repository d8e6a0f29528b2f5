"""The Terraform tree, parsed: every variable described, typed, used and passed, every reference declared, every stage complete.

What needs a provider - that a resource has the arguments it is given - is not checked here.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import hcl2
import pytest

Tree = dict[str, Any]
TERRAFORM = Path(__file__).resolve().parents[2] / "infra" / "terraform"
ENVIRONMENT = TERRAFORM / "environment"
MODULES = sorted(path for path in (TERRAFORM / "modules").iterdir() if path.is_dir())
STAGES = sorted(path.stem for path in ENVIRONMENT.glob("*.tfvars"))
META_ARGUMENTS = {"source", "for_each", "depends_on"}
NOTES = {"__is_block__", "__comments__", "__inline_comments__"}
"""What the parser adds of its own."""
FIELD = re.compile(r"(\w+) = ")


@functools.cache
def parsed(path: Path) -> Tree:
    """A file's blocks and assignments. Text is in quotes, an expression is `${...}`. Raises the parser's error where it is no HCL."""
    tree: Tree = hcl2.loads(path.read_text(encoding="utf-8"))
    return {name: value for name, value in tree.items() if name not in NOTES}


def blocks(folder: Path, kind: str) -> dict[str, Tree]:
    """Name -> body of the blocks of a kind with one label, in every file of a folder."""
    found = [block for path in sorted(folder.glob("*.tf")) for block in parsed(path).get(kind, [])]
    return {name.strip('"'): body for block in found for name, body in block.items()}


def expressions(folder: Path) -> str:
    """Everything a folder says but the declarations of its variables; comments are gone."""
    return json.dumps([{kind: body for kind, body in parsed(path).items() if kind != "variable"} for path in sorted(folder.glob("*.tf"))])


each_folder = pytest.mark.parametrize("folder", [*MODULES, ENVIRONMENT], ids=lambda folder: folder.name)


def test_files_are_formatted() -> None:
    terraform = shutil.which("terraform") or shutil.which("tofu")
    if terraform is None:
        warnings.warn("neither terraform nor tofu is on PATH: the files were parsed, their formatting was not checked", stacklevel=1)
        return
    done = subprocess.run([terraform, "fmt", "-check", "-recursive", "-diff", TERRAFORM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@each_folder
def test_every_variable_is_described_typed_and_used(folder: Path) -> None:
    declared = blocks(folder, "variable")
    assert [name for name, body in declared.items() if not (body.get("description") and body.get("type"))] == []
    assert set(re.findall(r"\bvar\.(\w+)", expressions(folder))) == set(declared)


@each_folder
def test_every_local_value_and_output_that_is_named_exists(folder: Path) -> None:
    said = expressions(folder)
    declared = {name for path in folder.glob("*.tf") for block in parsed(path).get("locals", []) for name in block} - NOTES
    assert set(re.findall(r"\blocal\.(\w+)", said)) == declared
    modules = {name: TERRAFORM / "modules" / Path(body["source"].strip('"')).name for name, body in blocks(folder, "module").items()}
    for module, output in re.findall(r"\bmodule\.(\w+)\.(\w+)", said):
        assert output in blocks(modules[module], "output"), f"module.{module}.{output}"


def test_the_environment_passes_every_module_exactly_its_variables() -> None:
    called = set()
    for name, body in blocks(ENVIRONMENT, "module").items():
        folder = ENVIRONMENT / body["source"].strip('"')
        called.add(folder.resolve())
        assert set(body) - META_ARGUMENTS - NOTES == set(blocks(folder, "variable")), name
    assert called == set(MODULES)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_sets_every_variable_with_every_field_and_nothing_else(stage: str) -> None:
    settings, declared = parsed(ENVIRONMENT / f"{stage}.tfvars"), blocks(ENVIRONMENT, "variable")
    assert set(settings) == set(declared)
    for name, body in declared.items():
        fields = set(FIELD.findall(body["type"]))
        values = settings[name].values() if body["type"].startswith("${map(object(") else [settings[name]]
        for value in values if fields else ():
            assert set(value) - NOTES == fields, name


def test_there_is_a_development_a_staging_and_a_production_stage() -> None:
    assert STAGES == ["dev", "prod", "staging"]


@pytest.mark.parametrize("stage", STAGES)
def test_gpu_pools_can_scale_to_zero_and_spot_pools_exist(stage: str) -> None:
    pools = parsed(ENVIRONMENT / f"{stage}.tfvars")["gpu_pools"].values()
    assert any(pool["min_nodes"] == 0 for pool in pools)
    assert any(pool["spot"] is True for pool in pools)


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_is_open_to_everybody(stage: str) -> None:
    assert '"0.0.0.0/0"' not in parsed(ENVIRONMENT / f"{stage}.tfvars")["api_server_ranges"].values()
