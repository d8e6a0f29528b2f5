"""`imagewright serve --payload`: one fixed payload is fetched once, verified, and named by its digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagewright.cli.serve import payload_version
from imagewright.storage import StoreError, open_store


@pytest.fixture
def payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, dict[str, str]]:
    monkeypatch.setenv("IMAGEWRIGHT_HOME", str(tmp_path / "home"))
    url = (tmp_path / "store").as_uri()
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "model_index.json").write_text("{}")
    return open_store(url).put_folder(tmp_path / "bundle"), {"IMAGEWRIGHT_STORE_URL": url}


@pytest.mark.parametrize("prefix", ["", "imagewright://sha256/"])
def test_a_payload_is_fetched_into_the_home(payload: tuple[str, dict[str, str]], prefix: str) -> None:
    digest, environment = payload
    find = payload_version("turbo", prefix + digest, environment)
    version = find()
    assert version.name == f"turbo@{digest[:12]}"
    assert version.digest == digest
    assert (version.folder / "model_index.json").read_text() == "{}"
    assert find() == version


def test_a_payload_that_is_no_digest_or_not_there_is_named(payload: tuple[str, dict[str, str]]) -> None:
    _, environment = payload
    with pytest.raises(StoreError, match="digest"):
        payload_version("turbo", "turbo@7", environment)
    with pytest.raises(StoreError):
        payload_version("turbo", "0" * 64, environment)()
