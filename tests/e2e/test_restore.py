"""Back up, destroy, restore: every run, metric, alias, artifact and payload of an MLflow server and its store is there again."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from typer.testing import CliRunner

from imagewright.cli.main import app
from imagewright.storage import Store, open_store
from imagewright.storage.verification import stored_folders, verify_payloads

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fixtures"))
from mlflow_server import running_mlflow

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]
MODEL = "turbo"


def work(uri: str, store: Store, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run with metrics, parameters, tags, a data set, an artifact and a registered version; returns the payload's digest."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    (folder / name).mkdir()
    (folder / name / "weights.bin").write_bytes(name.encode() * 1000)
    digest = store.put_folder(folder / name)
    store.put_named(f"runs/{name}/pretrain.json", digest.encode())
    mlflow.set_experiment("pretraining")
    with mlflow.start_run(run_name=name) as run:
        mlflow.log_params({"recipe": "debug", "seed": 7})
        mlflow.set_tag("stage", "pretrain")
        metrics = [Metric("train/loss", 1 / (step + 1), 1000 + step, step) for step in range(300)]
        MlflowClient(uri).log_batch(run.info.run_id, metrics=metrics)
        mlflow.log_text(f"<h1>{name}</h1>", "report.html")
    client = MlflowClient(uri)
    if not client.search_registered_models(f"name='{MODEL}'"):
        client.create_registered_model(MODEL)
    version = client.create_model_version(MODEL, f"imagewright://sha256/{digest}", run.info.run_id, tags={"digest": digest})
    client.set_registered_model_alias(MODEL, "champion", version.version)
    return digest


def everything(uri: str) -> dict[str, Any]:
    """All that a person sees in MLflow, in plain values."""
    client = MlflowClient(uri)
    found: dict[str, Any] = {}
    for run in client.search_runs([one.experiment_id for one in client.search_experiments()]):
        run_id = run.info.run_id
        history = [(one.step, one.value, one.timestamp) for one in client.get_metric_history(run_id, "train/loss")]
        report = Path(client.download_artifacts(run_id, "report.html")).read_text()
        found[run_id] = (run.info.run_name, run.data.params, run.data.tags, history, report)
    for model in client.search_registered_models():
        found[model.name] = sorted(
            (one.version, one.source, one.run_id, one.tags) for one in client.search_model_versions(f"name='{model.name}'")
        )
        found[f"{model.name} aliases"] = client.get_registered_model(model.name).aliases
    return found


def command(*arguments: str) -> None:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output


def test_everything_is_there_after_a_restore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, place, safe = tmp_path / "mlflow", tmp_path / "store", f"file://{tmp_path}/safe"
    server.mkdir()
    store = open_store(f"file://{place}")
    monkeypatch.setenv("IMAGEWRIGHT_STORE_URL", store.url)
    with running_mlflow(server, artifacts=place / "mlflow") as uri:
        digests = [work(uri, store, tmp_path, name, monkeypatch) for name in ("first", "second")]
        before = everything(uri)
        command("backup", "save", "mlflow", str(server / "mlflow.db"))
        command("store", "migrate", "--to", safe)
        work(uri, store, tmp_path, "later", monkeypatch)
    shutil.rmtree(place)
    shutil.rmtree(server)

    server.mkdir()
    command("store", "migrate", "--from", safe, "--to", store.url)
    command("backup", "restore", "mlflow", str(server / "mlflow.db"))
    with running_mlflow(server, artifacts=place / "mlflow") as uri:
        assert everything(uri) == before
    restored = open_store(store.url)
    assert verify_payloads(restored, stored_folders(restored)) == []
    for name, digest in zip(("first", "second"), digests, strict=True):
        restored.get(digest, tmp_path / "back" / name)
        assert (tmp_path / "back" / name / "weights.bin").read_bytes() == name.encode() * 1000
        kept = restored.get_named(f"runs/{name}/pretrain.json")
        assert kept is not None and kept.data.decode() == digest
