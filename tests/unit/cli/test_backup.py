"""`imagewright backup` as a user sees it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from imagewright.cli.backup import app


def test_a_file_is_saved_listed_and_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEWRIGHT_STORE_URL", (tmp_path / "store").as_uri())
    (tmp_path / "mlflow.dump").write_text("rows")
    saved = CliRunner().invoke(app, ["save", "mlflow", str(tmp_path / "mlflow.dump"), "--keep", "2"])
    listed = CliRunner().invoke(app, ["list", "mlflow"])
    restored = CliRunner().invoke(app, ["restore", "mlflow", str(tmp_path / "back.dump")])
    assert [saved.exit_code, listed.exit_code, restored.exit_code] == [0, 0, 0]
    assert len(listed.output.splitlines()) == 1
    assert listed.output.split()[-1] in saved.output
    assert (tmp_path / "back.dump").read_text() == "rows"
