"""Checks of this machine: Python, packages, programs, disk, memory, accelerators."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from imagewright.doctor.finding import Finding, State

PYTHON_VERSION = (3, 11)
GIB = 2**30
# The environment takes 2.7 GiB; below the first limit a run cannot write, below the second a demo may fill the disk.
REQUIRED_DISK_BYTES = 1 * GIB
COMFORTABLE_DISK_BYTES = 10 * GIB
# MLflow and SeaweedFS take 0.7 GiB, one training process of the demo about 2 GiB.
REQUIRED_MEMORY_BYTES = 2 * GIB
COMFORTABLE_MEMORY_BYTES = 6 * GIB
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;#]+)")
MAX_NAMED = 5
PROGRAM_SECONDS = 10


def check_python() -> Finding:
    """The interpreter must be the one the constraints were resolved for."""
    found = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] != PYTHON_VERSION:
        return Finding("python", State.failed, found, "make the environment with Python 3.11")
    return Finding("python", State.ok, found)


def check_packages(constraints: Path | None = None) -> Finding:
    """Installed versions must be the ones of constraints.txt; packages of extras that are not installed do not count."""
    file = constraints or Path(__file__).resolve().parents[3] / "constraints.txt"
    if not file.is_file():
        return Finding(
            "packages", State.skipped, "no constraints.txt beside this installation", "install from a checkout to compare versions"
        )
    pins = read_pins(file.read_text(encoding="utf-8").splitlines())
    installed = {name: found for name in pins if (found := _installed(name))}
    wrong = [
        f"{name} {installed[name]} instead of {pins[name]}"
        for name in installed
        if installed[name].split("+")[0] != pins[name].split("+")[0]
    ]
    if wrong:
        named = ", ".join(wrong[:MAX_NAMED]) + (f" and {len(wrong) - MAX_NAMED} more" if len(wrong) > MAX_NAMED else "")
        return Finding("packages", State.failed, named, f"pip install --constraint {file.name} --editable '.[all,dev]'")
    return Finding("packages", State.ok, f"{len(installed)} as pinned, {len(pins) - len(installed)} not installed")


def read_pins(lines: Iterable[str]) -> dict[str, str]:
    """Return {package: version} of the exact pins in a constraints file."""
    return {found.group(1): found.group(2) for line in lines if (found := PIN.match(line.strip()))}


def check_git() -> Finding:
    """The data registry is a git repository."""
    program = shutil.which("git")
    if program is None:
        return Finding("git", State.failed, "not found", "install git: the data registry is a git repository")
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=False)
    return Finding("git", State.ok, shown.stdout.strip().removeprefix("git version "))


def check_disk(folder: Path) -> Finding:
    """Free space where runs, caches and the local stack are kept."""
    while not folder.exists():
        folder = folder.parent
    return judge_space("disk", shutil.disk_usage(folder).free, f"free at {folder}", REQUIRED_DISK_BYTES, COMFORTABLE_DISK_BYTES)


def check_memory() -> Finding:
    """Memory that a job can still have."""
    import psutil

    memory = psutil.virtual_memory()
    detail = f"of {memory.total / GIB:.1f} GiB available, {os.cpu_count()} CPU cores"
    return judge_space("memory", memory.available, detail, REQUIRED_MEMORY_BYTES, COMFORTABLE_MEMORY_BYTES)


def judge_space(name: str, num_bytes: int, detail: str, required: int, comfortable: int) -> Finding:
    """Failed below `required` bytes, a warning below `comfortable` ones, else ok."""
    shown = f"{num_bytes / GIB:.1f} GiB {detail}"
    if num_bytes < required:
        return Finding(name, State.failed, shown, f"jobs need at least {required / GIB:.0f} GiB")
    if num_bytes < comfortable:
        return Finding(name, State.warning, shown, f"{comfortable / GIB:.0f} GiB are comfortable")
    return Finding(name, State.ok, shown)


def check_accelerators() -> Finding:
    """GPUs that PyTorch can use; without any, the CPU recipes still run."""
    if importlib.util.find_spec("torch") is None:
        return Finding("accelerators", State.skipped, "torch is not installed", "pip install 'imagewright[train]' to train here")
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return Finding("accelerators", State.ok, f"{len(names)}: {', '.join(sorted(set(names)))}; CUDA {torch.version.cuda}")
    if Path("/dev/nvidia0").exists():
        fix = "install the CUDA build of torch and a driver that matches it"
        return Finding("accelerators", State.warning, f"a GPU is present but torch {torch.__version__} cannot use it", fix)
    return Finding("accelerators", State.ok, "none; debug and demo recipes run on the CPU")


def check_compiler() -> Finding:
    """What DeepSpeed compiles its CPU operator with; only multi-process training on a CPU needs it."""
    found = {
        "g++": shutil.which("g++") or shutil.which("c++"),
        "ninja": shutil.which("ninja") or _beside_python("ninja"),
        "Python.h": _existing(Path(sysconfig.get_path("include")) / "Python.h"),
    }
    missing = [name for name, place in found.items() if place is None]
    if missing:
        fix = "only DeepSpeed on a CPU needs them: install g++, ninja and python3-dev"
        return Finding("compiler", State.warning, f"missing: {', '.join(missing)}", fix)
    return Finding("compiler", State.ok, "g++, ninja and Python.h are there")


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _beside_python(program: str) -> str | None:
    return _existing(Path(sys.executable).parent / program)


def _existing(path: Path) -> str | None:
    return str(path) if path.is_file() else None
