"""`imagewright doctor` as a user sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from imagewright.cli.doctor import doctor

app = typer.Typer()
app.command()(doctor)

VARIABLES = (
    "IMAGEWRIGHT_STORE_URL",
    "IMAGEWRIGHT_REGISTRY_URL",
    "MLFLOW_TRACKING_URI",
    "KUBECONFIG",
    "KF_PIPELINES_ENDPOINT",
    "IMAGEWRIGHT_HOME",
)


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_service_that_does_not_work_makes_the_exit_code_1(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEWRIGHT_STORE_URL", "ftp://nowhere")
    result = CliRunner().invoke(app, ["--home", str(clean), "--json"])
    assert result.exit_code == 1
    findings = {line["name"]: line for line in map(json.loads, result.output.splitlines())}
    assert findings["store"]["state"] == "failed"
    assert findings["store"]["fix"]


def test_the_report_has_one_line_a_check_with_what_to_do(clean: Path) -> None:
    result = CliRunner().invoke(app, ["--home", str(clean)])
    assert "imagewright up" in result.output
    assert {
        "python",
        "packages",
        "git",
        "disk",
        "memory",
        "accelerators",
        "compiler",
        "store",
        "registry",
        "tracking",
        "kubernetes",
        "kubeflow",
    } <= set(result.output.split())
