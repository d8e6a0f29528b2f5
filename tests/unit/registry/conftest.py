"""A small store and an empty registry, made for every test; no test reads the git settings of whoever runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from imagewright.registry import DataRegistry, create_repository
from imagewright.storage import Store, open_store

AUTHOR = "Ada Lovelace <ada@example.com>"


@pytest.fixture(autouse=True)
def no_git_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty global git configuration that a test may fill."""
    path = tmp_path / "gitconfig"
    path.write_text("", encoding="utf-8")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "EMAIL", "IMAGEWRIGHT_REGISTRY_URL", "IMAGEWRIGHT_PIPELINE_RUN"):
        monkeypatch.delenv(name, raising=False)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"file://{tmp_path}/store")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return create_repository(tmp_path / "registry.git")


@pytest.fixture
def registry(repository: Path, store: Store) -> DataRegistry:
    return DataRegistry(repository, store, identity=AUTHOR)


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder of small files: make_folder({"a.txt": "one"})."""

    def make(files: dict[str, str], name: str = "payload") -> Path:
        folder = tmp_path / name
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(content, encoding="utf-8")
        return folder

    return make
