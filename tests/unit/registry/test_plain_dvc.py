"""The real dvc, run in a plain git clone of the registry, pulls every revision and finds nothing amiss."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from fixtures.seaweedfs import BUCKET, running_seaweedfs

from imagewright.registry import DataRegistry, create_repository
from imagewright.storage import open_store

pytestmark = pytest.mark.e2e
MakeFolder = Callable[..., Path]
AUTHOR = "Ada Lovelace <ada@example.com>"


def run(folder: Path, environment: Mapping[str, str], *command: str) -> str:
    quiet = {"DVC_NO_ANALYTICS": "1", "HOME": str(folder), "DVC_GLOBAL_CONFIG_DIR": str(folder), "DVC_SYSTEM_CONFIG_DIR": str(folder)}
    program = [sys.executable, "-m", *command] if command[0] == "dvc" else list(command)
    done = subprocess.run(program, cwd=folder, env={**os.environ, **quiet, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_with_dvc(folder: Path, registry: DataRegistry, payload: Path, environment: Mapping[str, str]) -> dict[str, bytes]:
    """Two revisions and a second dataset: a clone pulls the newest and has nothing that the remote lacks. Returns the first's files."""
    registry.commit("raw", payload, "First")
    first = files_below(payload)
    (payload / "a.txt").write_text("changed")
    (payload / "new").mkdir()
    (payload / "new/shard-00000.tar").write_bytes(b"\0" * 3_000_000)
    registry.commit("raw", payload, "Second")
    registry.commit("tables", payload / "a.txt", "A dataset of one file")
    run(folder, {}, "git", "clone", "--quiet", registry.url, "clone")
    clone = folder / "clone"
    run(clone, environment, "dvc", "pull")
    assert files_below(clone / "raw") == files_below(payload)
    assert (clone / "tables/a.txt").read_text() == "changed"
    assert json.loads(run(clone, environment, "dvc", "status", "--cloud", "--json")) == {}
    assert run(clone, {}, "git", "status", "--porcelain") == ""
    return first


def test_dvc_pulls_from_a_store_in_a_folder(registry: DataRegistry, make_folder: MakeFolder, tmp_path: Path) -> None:
    payload = make_folder({"a.txt": "one", "sub/é ü.txt": "two", "sub/empty": ""})
    first = check_with_dvc(tmp_path, registry, payload, {})
    clone = tmp_path / "clone"
    run(clone, {}, "git", "checkout", "--quiet", "raw@v1")
    run(clone, {}, "dvc", "pull")
    assert files_below(clone / "raw") == first


def test_dvc_pulls_from_a_store_in_s3(make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = make_folder({"a.txt": "one", "sub/é ü.txt": "two", "sub/empty": ""})
    (tmp_path / "server").mkdir()
    with running_seaweedfs(tmp_path / "server") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        registry = DataRegistry(create_repository(tmp_path / "registry.git"), open_store(f"s3://{BUCKET}/some/prefix"), identity=AUTHOR)
        check_with_dvc(tmp_path, registry, payload, server.environment)
        config = (tmp_path / "clone/.dvc/config").read_text()
    assert f"url = s3://{BUCKET}/some/prefix/dvc" in config
    assert server.secret_key not in config and server.endpoint not in config
