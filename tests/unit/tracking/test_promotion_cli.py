"""What a person sees who promotes, is refused, rolls back and asks for the lineage."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from imagewright.cli.main import app
from imagewright.storage import open_store
from imagewright.tracking.models import ModelRegistry
from imagewright.tracking.scores import Score

OVERALL = "eval/geneval/overall"


def call(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output + (str(result.exception) if result.exception else "")


def test_promote_refuse_roll_back_and_ask(server_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEWRIGHT_STORE_URL", f"file://{tmp_path}/store")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server_uri)
    store, registry = open_store(f"file://{tmp_path}/store"), ModelRegistry(server_uri)
    good, bad, better = (
        registry.register("enhancer", store.put_bytes(name.encode()), None, {OVERALL: Score(value, value, value)})
        for name, value in (("good", 0.5), ("bad", 0.4999), ("better", 0.6))
    )
    gate = tmp_path / "gate.yaml"
    gate.write_text(f"floors:\n  {OVERALL}: 0.5\n")
    code, text = call("promote", str(good), "--gate", str(gate), "--dry-run")
    assert code == 0 and f"{good} would be champion" in text and registry.alias("enhancer") is None
    code, text = call("promote", str(good), "--gate", str(gate))
    assert code == 0 and f"{good} is now champion, the first" in text
    code, text = call("promote", str(bad), "--gate", str(gate))
    assert code == 1 and "0.4999 is not >= 0.5" in text and f"{bad} is refused" in text
    assert call("promote", str(better), "--gate", str(gate))[0] == 0
    code, text = call("rollback", "enhancer")
    assert code == 0 and f"{good} is champion again" in text
    MlflowClient(server_uri).delete_registered_model_alias("enhancer", "champion")
    code, text = call("promote", "enhancer@champion", "--repair")
    assert code == 0 and "the alias pointed at None" in text and registry.alias("enhancer") == good.version
    code, text = call("lineage", str(good))
    assert code == 0 and good.digest[:12] in text


@pytest.mark.parametrize("arguments", [("lineage",), ("lineage", "turbo@1", "--sample", "cat"), ("promote", "giant@1")])
def test_a_question_that_makes_no_sense_is_refused(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    code, text = call(*arguments)
    assert code != 0 and ("needs a model or a sample" in text or "lineage names" in text)


def test_without_a_server_the_setting_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("IMAGEWRIGHT_STORE_URL", f"file://{tmp_path}")
    code, text = call("rollback", "turbo")
    assert code != 0 and "MLFLOW_TRACKING_URI: is not set" in text
