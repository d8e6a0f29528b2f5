"""The Terraform tree: formatted, every variable used and passed, every stage complete; resources need a provider to be checked."""

from __future__ import annotations

import re
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest

TERRAFORM = Path(__file__).resolve().parents[2] / "infra" / "terraform"
ENVIRONMENT = TERRAFORM / "environment"
MODULES = sorted(path for path in (TERRAFORM / "modules").iterdir() if path.is_dir())
STAGES = sorted(path.stem for path in ENVIRONMENT.glob("*.tfvars"))
DECLARED = re.compile(r'^variable "(\w+)" \{\n  description = "[^"]+"\n  type ', re.MULTILINE)
NAMED = re.compile(r'^variable "(\w+)"', re.MULTILINE)
ASSIGNED = re.compile(r"^(\w+) +=", re.MULTILINE)
CALL = re.compile(r'^module "(\w+)" \{\n(.*?)^\}', re.MULTILINE | re.DOTALL)
ARGUMENT = re.compile(r"^  (\w+) +=", re.MULTILINE)
META_ARGUMENTS = {"source", "for_each", "depends_on"}


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def variables(folder: Path) -> set[str]:
    return set(NAMED.findall(text(folder / "variables.tf")))


def test_files_are_formatted_and_parse() -> None:
    terraform = shutil.which("terraform") or shutil.which("tofu")
    if terraform is None:
        warnings.warn("neither terraform nor tofu is on PATH: the files were not parsed", stacklevel=1)
        return
    done = subprocess.run([terraform, "fmt", "-check", "-recursive", "-diff", TERRAFORM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("folder", [*MODULES, ENVIRONMENT], ids=lambda folder: folder.name)
def test_every_variable_is_described_typed_and_used(folder: Path) -> None:
    declared = variables(folder)
    assert set(DECLARED.findall(text(folder / "variables.tf"))) == declared
    used = "".join(text(path) for path in folder.glob("*.tf") if path.name != "variables.tf")
    assert {name for name in declared if not re.search(rf"\bvar\.{name}\b", used)} == set()
    assert set(re.findall(r"\bvar\.(\w+)", used)) <= declared


def test_the_environment_passes_every_module_exactly_its_variables() -> None:
    called = set()
    for _, body in CALL.findall(text(ENVIRONMENT / "main.tf")):
        source = re.search(r'source += "\.\./modules/(\w+)"', body)
        assert source
        called.add(source[1])
        assert set(ARGUMENT.findall(body)) - META_ARGUMENTS == variables(TERRAFORM / "modules" / source[1]), source[1]
    assert called == {folder.name for folder in MODULES}


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_sets_every_variable_and_nothing_else(stage: str) -> None:
    assert set(ASSIGNED.findall(text(ENVIRONMENT / f"{stage}.tfvars"))) == variables(ENVIRONMENT)


def test_there_is_a_development_a_staging_and_a_production_stage() -> None:
    assert STAGES == ["dev", "prod", "staging"]


@pytest.mark.parametrize("stage", STAGES)
def test_gpu_pools_can_scale_to_zero_and_spot_pools_exist(stage: str) -> None:
    settings = text(ENVIRONMENT / f"{stage}.tfvars")
    assert re.search(r"min_nodes +=\s0\b", settings)
    assert re.search(r"spot +=\strue\b", settings)


def test_nothing_is_open_to_everybody_in_a_stage() -> None:
    assert all('"0.0.0.0/0"' not in text(ENVIRONMENT / f"{stage}.tfvars") for stage in STAGES)
