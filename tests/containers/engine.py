"""A container engine, a base image and the product's images on it, made with what this machine has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TARGETS = ("control", "worker", "serve")
TEST_BASE = "localhost/imagewright-test-base:bookworm"
BASE_PACKAGES = "ca-certificates,python3,python3-venv,python3-pip"
NO_ENGINE = (
    "These tests build and run containers, and neither podman nor a Docker daemon is here. "
    "On Debian: apt-get install podman buildah runc mmdebstrap"
)
NO_BASE = (
    "These tests need a base image with Python 3.11. Name one this machine has or can pull, make test-containers "
    "BASE=docker.io/library/python@sha256:..., or let it be made here: apt-get install mmdebstrap"
)
# Limits a container may raise to no more than its engine has; the defaults of podman are higher than some machines allow.
PODMAN_SETTINGS = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
"""
PIP_KEYS = ("index-url", "extra-index-url", "find-links", "cert", "trusted-host", "default-timeout")
START_SECONDS = 60


class MissingError(Exception):
    """What these tests cannot do without."""


@dataclass(frozen=True)
class Engine:
    """podman or docker. environment: what its command line and its clients need; DOCKER_HOST among it."""

    name: str
    environment: dict[str, str]

    def call(self, *arguments: str, check: bool = True, timeout: float = 3600) -> subprocess.CompletedProcess[str]:
        """Runs the engine's command line."""
        done = subprocess.run(
            [self.name, *arguments], env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert not check or done.returncode == 0, f"{self.name} {' '.join(arguments)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done

    def has_image(self, name: str) -> bool:
        return self.call("image", "inspect", name, check=False).returncode == 0


@contextmanager
def container_engine(folder: Path) -> Iterator[Engine]:
    """podman with a Docker API of its own while the block runs, else a Docker daemon that answers. Raises MissingError."""
    if shutil.which("podman") and shutil.which("runc"):
        with podman(folder) as engine:
            yield engine
    elif shutil.which("docker") and Engine("docker", {}).call("version", check=False, timeout=60).returncode == 0:
        yield Engine("docker", {})
    else:
        raise MissingError(NO_ENGINE)


@contextmanager
def podman(folder: Path) -> Iterator[Engine]:
    """podman, and its system service on a socket in `folder`."""
    settings, socket = folder / "containers.conf", folder / "podman.sock"
    settings.write_text(PODMAN_SETTINGS)
    engine = Engine("podman", {"CONTAINERS_CONF": str(settings), "DOCKER_HOST": f"unix://{socket}"})
    with (folder / "podman.log").open("wb") as log:
        command = ["podman", "system", "service", "--time", "0", f"unix://{socket}"]
        service = subprocess.Popen(command, env={**os.environ, **engine.environment}, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not socket.exists():
            if service.poll() is not None or time.monotonic() > deadline:
                raise MissingError(f"podman's service does not start:\n{(folder / 'podman.log').read_text()}")
            time.sleep(0.1)
        yield engine
    finally:
        service.terminate()
        service.wait(30)


def base_image(engine: Engine, folder: Path) -> str:
    """The image IMAGEWRIGHT_TEST_BASE names, or a minimal Debian bookworm, whose python3 is 3.11, made once. Raises MissingError."""
    named = os.environ.get("IMAGEWRIGHT_TEST_BASE", "")
    if named:
        return named
    if not engine.has_image(TEST_BASE):
        if not shutil.which("mmdebstrap"):
            raise MissingError(NO_BASE)
        archive = folder / "base.tar"
        command = ["mmdebstrap", "--variant=minbase", f"--include={BASE_PACKAGES}", "bookworm", str(archive)]
        subprocess.run(command, check=True, timeout=3600)
        engine.call("import", str(archive), TEST_BASE)
        archive.unlink()
    return TEST_BASE


def build_images(engine: Engine, base: str, folder: Path) -> None:
    """`make images` with pip configured as it is on this machine."""
    flags = ["--network=host", *pip_flags(engine, folder)]
    if engine.name == "podman":
        flags.append("--layers=false")  # intermediate layers of gigabytes that nobody asks for again
    command = ["make", "images", f"BASE={base}", f"BUILDER={engine.name}", f"BUILD_FLAGS={' '.join(flags)}"]
    subprocess.run(command, cwd=REPOSITORY, env={**os.environ, **engine.environment}, check=True, timeout=7200)


def pip_flags(engine: Engine, folder: Path) -> list[str]:
    """Build flags that hand this machine's pip configuration to the build as a secret, and its local folders as volumes (podman)."""
    settings = pip_settings()
    configuration = folder / "pip.conf"
    configuration.write_text("\n".join(["[global]", *(f"{key} = {value}" for key, value in settings.items())]) + "\n")
    places = [part.removeprefix("file://") for value in settings.values() for part in value.split()]
    local = sorted({place for place in places if place.startswith("/") and Path(place).exists()})
    volumes = [f"--volume={place}:{place}:ro" for place in local] if engine.name == "podman" else []
    return [f"--secret=id=pip_conf,src={configuration}", *volumes]


def pip_settings() -> dict[str, str]:
    """Where pip finds packages on this machine, from every level of its configuration; the environment has the last word."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    levels = ("global", "user", "site", "install", ":env:")
    merged = {key: found[f"{level}.{key}"].strip("'") for level in levels for key in PIP_KEYS if f"{level}.{key}" in found}
    return {key: value.replace("\\n", " ") for key, value in merged.items()}
