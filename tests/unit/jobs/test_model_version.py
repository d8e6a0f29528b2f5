"""A training job's payload becomes a version of its lineage, once, and a tracking server that is away costs only the name."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fixtures.mlflow_server import running_mlflow
from fixtures.orchard import Orchard

from imagewright.config.gate import GateConfig
from imagewright.jobs.job import job_modules, load_job
from imagewright.jobs.model_version import answers, bounded
from imagewright.storage import open_store
from imagewright.tracking.lineage_names import ModelError
from imagewright.tracking.models import ModelRegistry
from imagewright.tracking.promotion import Promoter
from imagewright.tracking.scores import Score

TRAINER = """
from imagewright.jobs.job import Job, Outcome
JOB = Job(name="{name}", stage="test", kind="model", model="{model}", optional_inputs=("base",), sections=("threads",))
def run(context):
    (context.output / "weights.txt").write_text("{name}")
    return Outcome(metrics={{"quality": 0.5, "quality_low": 0.4, "quality_high": 0.6, "loss": 1.0}})
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_mlflow(tmp_path_factory.mktemp("mlflow")) as uri:
        yield uri


def plant(orchard: Orchard, name: str, model: str) -> None:
    (orchard.jobs / f"{name.replace('-', '_')}.py").write_text(TRAINER.format(name=name, model=model))


def test_every_stage_of_the_lineage_has_a_job_that_names_it() -> None:
    jobs = {job.name: job.model for job, _ in map(load_job, job_modules()) if job.model}
    assert jobs == {"pretrain-dit": "base", "finetune-sft": "sft", "align-dpo": "dpo", "train-enhancer": "enhancer"}
    assert all(load_job(name)[0].kind == "model" for name in jobs)


def test_a_payload_is_registered_once_with_its_parent_and_what_has_an_interval(
    orchard: Orchard, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    plant(orchard, "grow-base", "base")
    plant(orchard, "grow-sft", "sft")
    base = orchard.run("grow-base")
    sft = orchard.run("grow-sft", {"base": base})
    assert (base.revision, sft.revision) == ("base@1", "sft@1")
    assert orchard.run("grow-sft", {"base": base}).revision == "sft@1"
    version = ModelRegistry(server).get("sft", "1")
    assert (version.digest, version.origin.parent, version.origin.pipeline_run) == (sft.digest, base.digest, "test-run")
    assert version.scores == {"quality": Score(0.5, 0.4, 0.6)}
    assert [found.version for found in ModelRegistry(server).versions("sft")] == [1]
    with pytest.raises(ModelError):
        ModelRegistry(server).get("sft", "challenger")  # weights challenge nobody
    decision = Promoter(open_store(orchard.environ["IMAGEWRIGHT_STORE_URL"]), ModelRegistry(server)).promote(version, GateConfig())
    assert not decision.passed
    assert "no server loads" in next(verdict.reason for verdict in decision.verdicts if not verdict.passed)


def test_a_server_that_is_away_costs_the_name_until_the_payload_is_found_again(
    orchard: Orchard, server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(orchard, "grow-enhancer", "enhancer")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    first = orchard.run("grow-enhancer")
    assert first.revision == "" and first.digest
    assert "not registered as enhancer (no answer)" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    found = orchard.run("grow-enhancer")
    assert (found.revision, found.digest) == ("enhancer@1", first.digest)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert orchard.run("grow-enhancer").revision == "enhancer@1"  # it is in the action's entry now


def test_a_server_that_refuses_costs_the_name_too(
    orchard: Orchard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(orchard, "grow-dpo", "dpo")

    class Refusing(BaseHTTPRequestHandler):
        """Healthy, and read-only for us."""

        def do_GET(self) -> None:
            healthy = self.path == "/health"
            self.send_response(200 if healthy else 403)
            self.end_headers()
            self.wfile.write(b"OK" if healthy else b'{"error_code": "PERMISSION_DENIED", "message": "read only"}')

        do_POST = do_GET  # noqa: N815 - the name http.server calls

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_address[1]}")
        record = orchard.run("grow-dpo")
        server.shutdown()
    assert record.digest and record.revision == ""
    assert "not registered as dpo" in capsys.readouterr().err


def test_an_address_that_is_no_server_is_not_asked() -> None:
    assert answers("sqlite:///somewhere.db") and not answers("http://127.0.0.1:9")


def test_only_metrics_with_both_bounds_are_scores() -> None:
    assert bounded({"a": 0.5, "a_low": 0.4, "b": 0.5, "b_low": 0.6, "b_high": 0.7}) == {"b": Score(0.5, 0.5, 0.7)}
