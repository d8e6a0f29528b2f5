"""Back up, destroy, restore: every run, metric, alias, artifact and payload of an MLflow server and its store is there again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest
from fixtures.documented_commands import commands
from fixtures.mlflow_server import running_mlflow
from fixtures.postgresql import running_postgresql
from fixtures.seaweedfs import S3Server, running_seaweedfs
from helm.charts import manifests
from mlflow import MlflowClient
from mlflow.entities import Metric
from typer.testing import CliRunner

from imagewright.cli.main import app
from imagewright.launch.policy import pod_specs
from imagewright.storage import Store, open_store
from imagewright.storage.verification import stored_folders, verify_payloads

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]
MODEL = "turbo"
RUNBOOK = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


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


def of_chart(kind: str, name: str, container: str) -> dict[str, Any]:
    """A container as the platform chart renders it with bundled services."""
    (found,) = [one for one in manifests("imagewright", "bundled") if one["kind"] == kind and one["metadata"]["name"].endswith(name)]
    ((_, pod, _),) = pod_specs(found)
    return next(one for one in [*pod.get("initContainers", []), *pod["containers"]] if one["name"] == container)


def shell(line: list[str], folder: Path) -> None:
    """A command of the chart or of the runbook."""
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def use_s3(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**environment, "MLFLOW_S3_ENDPOINT_URL": environment["AWS_ENDPOINT_URL"]}.items():
        monkeypatch.setenv(name, value)


def name_target(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials of the service that a migration fills."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"IMAGEWRIGHT_TARGET_AWS_{name}", server.environment[f"AWS_{name}"])


@pytest.mark.postgresql
def test_everything_is_there_after_a_restore_of_postgresql_and_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chart's own dump, its upload and its init container, and the runbook's own restore, with both services lost in between.

    MLflow's client uses the database itself: what a server would add has its test above.
    """
    dump = of_chart("CronJob", "backup", "dump")["command"]
    upload = of_chart("CronJob", "backup", "upload")
    upgrade = of_chart("Deployment", "mlflow", "upgrade-database")["command"]
    (restore,) = [words for words in commands(RUNBOOK) if words[0] == "pg_restore"]
    folders = {name: tmp_path / name for name in ("backup", "lost", "copy", "fresh", "back")}
    for folder in folders.values():
        folder.mkdir()
    monkeypatch.setenv("IMAGEWRIGHT_STORE_URL", "s3://imagewright/")
    with running_postgresql() as database, running_seaweedfs(folders["copy"]) as copy:
        for name, value in database.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        with running_seaweedfs(folders["lost"]) as lost:
            use_s3(lost.environment, monkeypatch)
            store = open_store("s3://imagewright/", lost.environment)
            MlflowClient(database.uri).create_experiment("pretraining", artifact_location="s3://imagewright/mlflow/1")
            digest = work(database.uri, store, tmp_path, "first", monkeypatch)
            before = everything(database.uri)
            shell([word.replace("/backup/", f"{folders['backup']}/") for word in dump], tmp_path)
            command(*(word.replace("/backup/", f"{folders['backup']}/") for word in [*upload["command"][1:], *upload["args"]]))
            work(database.uri, store, tmp_path, "later", monkeypatch)
            assert everything(database.uri) != before
            name_target(copy, monkeypatch)
            command("store", "migrate", "--to", "s3://imagewright/", "--to-endpoint", copy.endpoint)
        database.recreate()

        with running_seaweedfs(folders["fresh"]) as fresh:
            use_s3(copy.environment, monkeypatch)
            name_target(fresh, monkeypatch)
            command("store", "migrate", "--from", "s3://imagewright/", "--to", "s3://imagewright/", "--to-endpoint", fresh.endpoint)
            use_s3(fresh.environment, monkeypatch)
            command("store", "verify")
            shell(upgrade, tmp_path)  # a fresh installation made its tables before anybody restores
            monkeypatch.chdir(folders["back"])
            command("backup", "restore", "mlflow", "mlflow.dump")
            shell([*restore, f"--port={database.port}"], folders["back"])
            assert everything(database.uri) == before
            open_store("s3://imagewright/", os.environ).get(digest, tmp_path / "whole")
    assert (tmp_path / "whole" / "weights.bin").read_bytes() == b"first" * 1000
