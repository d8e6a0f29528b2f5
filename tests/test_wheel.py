"""The wheel holds everything: built, installed in an environment of its own, every module imported from there, no data file missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

IMPORT_ALL = """
import importlib, pkgutil, sys
from importlib.metadata import entry_points
failed = []
for name in ("imagewright", "imagewright_pipelines", "imagewright_components"):
    package = importlib.import_module(name)
    assert package.__file__.startswith(sys.prefix), f"{name} comes from {package.__file__}"
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        try:
            importlib.import_module(module.name)
        except Exception as error:
            failed.append(f"{module.name}: {type(error).__name__}: {error}")
for top in ("pipelines", "components"):
    assert importlib.util.find_spec(top) is None, f"the wheel ships a top-level {top}"
names = {point.name for point in entry_points(group="imagewright.pipelines")}
assert "end_to_end" in names, names
from imagewright.config import packaged_recipes
assert "debug" in packaged_recipes()
print("\\n".join(failed))
"""


@pytest.mark.e2e
def test_every_module_imports_from_an_installed_wheel(tmp_path: Path) -> None:
    copy_sources(tmp_path / "sources")  # a `build` folder of before would lend its files
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(tmp_path / "sources")]
    subprocess.run(build, check=True, capture_output=True, timeout=280)
    wheel = next((tmp_path / "dist").glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        assert {"LICENSE", "NOTICE"} <= {Path(name).name for name in archive.namelist()}
        assert data_files() - set(archive.namelist()) == set()
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel], check=True, timeout=120)
    site = tmp_path / "venv" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    # The dependencies come from this environment; a plain path entry runs none of its .pth files, so no editable install leaks in.
    (site / "dependencies.pth").write_text("\n".join({sysconfig.get_path("purelib"), *site_folders()}))
    done = subprocess.run([python, "-c", IMPORT_ALL], capture_output=True, text=True, timeout=280, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def copy_sources(folder: Path) -> None:
    """What a wheel is made from."""
    folder.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, folder)
    for name in ("src", "pipelines", "components"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))


def data_files() -> set[str]:
    """What the package reads beside its modules, as the wheel names it."""
    found = {path for path in (ROOT / "src" / "imagewright").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert {path.suffix for path in found} == {".html", ".yaml"}
    return {path.relative_to(ROOT / "src").as_posix() for path in found}


def site_folders() -> list[str]:
    """Folders with dependencies on this interpreter's path."""
    return [folder for folder in sys.path if folder.endswith("site-packages")]
