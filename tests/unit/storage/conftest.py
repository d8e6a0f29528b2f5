"""Stores of both kinds for the tests: a local folder, and a prefix of one real SeaweedFS that runs for the whole session."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagewright.storage import Store, open_store

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "fixtures"))
from seaweedfs import BUCKET, S3Server, running_seaweedfs


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A SeaweedFS process; killed after the last test."""
    with running_seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind."""
    if request.param == "local":
        return open_store(f"file://{tmp_path}/store")
    server: S3Server = request.getfixturevalue("s3_server")
    return open_store(f"s3://{BUCKET}/{uuid.uuid4().hex}", server.environment)


@pytest.fixture
def local_store(tmp_path: Path) -> Store:
    """An empty store in a folder."""
    return open_store(f"file://{tmp_path}/store")


@pytest.fixture
def s3_store(s3_server: S3Server) -> Store:
    """An empty store on the server."""
    return open_store(f"s3://{BUCKET}/{uuid.uuid4().hex}", s3_server.environment)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with nested files, an empty one and two equal ones."""
    root = tmp_path / "source"
    (root / "nested" / "deeper").mkdir(parents=True)
    (root / "a.txt").write_bytes(b"alpha")
    (root / "empty").write_bytes(b"")
    (root / "nested" / "bild-\u56fe.bin").write_bytes(bytes(range(256)) * 10)
    (root / "nested" / "deeper" / "again.txt").write_bytes(b"alpha")
    return root
