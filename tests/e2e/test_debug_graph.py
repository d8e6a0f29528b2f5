"""The whole graph on the debug recipe, as a person runs it: killed on the way, continued, found again, served."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient

from imagewright import stack
from imagewright.tracking.models import ModelRegistry

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]
COMMAND = [sys.executable, "-m", "imagewright.cli.main"]
KILL_AFTER = ("train-vae", "pretrain-dit")
ALWAYS = {"promote-model", "write-report"}
LINEAGE = {"base": "pretrain-dit", "sft": "finetune-sft", "dpo": "align-dpo", "enhancer": "train-enhancer"}
DATASETS = {
    "raw": "ingest-raw",
    "curated": "curate-manifest",
    "latents": "encode-latents",
    "sft": "build-sft-data",
    "preferences": "build-preferences",
}


class Laptop:
    """An empty home, and the command line in it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environ = {**os.environ, "IMAGEWRIGHT_HOME": str(home), "COLUMNS": "160", "OMP_NUM_THREADS": "1"}
        for name in ("IMAGEWRIGHT_STORE_URL", "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL"):
            self.environ.pop(name, None)

    def call(self, *arguments: str, expect: int = 0) -> str:
        done = subprocess.run([*COMMAND, *arguments], env=self.environ, capture_output=True, text=True, timeout=1200, check=False)
        assert done.returncode == expect, f"{arguments} ended with {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.log()}"
        return done.stdout

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*COMMAND, *arguments], env=self.environ, stdout=subprocess.DEVNULL)

    def log(self) -> str:
        logs = sorted(self.home.glob("runs/*/log.txt"), key=lambda path: path.stat().st_mtime)
        return logs[-1].read_text(errors="replace")[-4000:] if logs else ""

    def steps(self, run: str) -> dict[str, dict[str, Any]]:
        return {path.stem: json.loads(path.read_text()) for path in (self.home / "runs" / run / "steps").glob("*.json")}

    def done_in(self, run: str) -> set[str]:
        return {name for name, step in self.steps(run).items() if step["status"] == "done"}


def kill_during(laptop: Laptop, run: str, job: str) -> None:
    """SIGKILL to the runner alone while `job` runs; the job must notice and end by itself."""
    folder = laptop.home / "runs" / run
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline:
        step = laptop.steps(run).get(job) if folder.exists() else None
        if step and step["status"] == "running":
            break
        time.sleep(0.05)
    job_process = psutil.Process(int(laptop.steps(run)[job]["pid"]))
    os.kill(json.loads((folder / "state.json").read_text())["pid"], signal.SIGKILL)
    job_process.wait(60)


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    made = Laptop(tmp_path_factory.mktemp("home"))
    yield made
    made.call("down")


@pytest.fixture(scope="module")
def finished(laptop: Laptop) -> Laptop:
    """The graph brought to its end over two kills of its runner."""
    process = laptop.start("run", "end_to_end", "--name", "first")
    for job in KILL_AFTER:
        kill_during(laptop, "first", job)
        assert process.wait(60) != 0
        if job != KILL_AFTER[-1]:
            process = laptop.start("resume", "first")
    laptop.call("resume", "first")
    return laptop


def test_a_killed_run_continues_and_no_finished_job_runs_again(finished: Laptop) -> None:
    steps = finished.steps("first")
    assert {step["status"] for step in steps.values()} == {"done", "cached"}
    assert {name for name, step in steps.items() if step["status"] == "cached"} >= {"ingest-raw", "curate-manifest", "train-vae"}
    assert (finished.home / "runs" / "first" / "report.html").stat().st_size < 5_000_000


def test_every_dataset_is_committed_once_and_named_in_mlflow(finished: Laptop) -> None:
    steps, variables = finished.steps("first"), stack.environment(finished.home)
    assert {name: steps[job]["revision"] for name, job in DATASETS.items()} == {name: f"{name}@v1" for name in DATASETS}
    log = subprocess.run([*COMMAND, "data", "log", "--json"], env={**finished.environ, **variables}, capture_output=True, check=True)
    newest = json.loads(log.stdout)
    assert {one["revision"]: one["digest"] for one in newest} == {f"{name}@v1": steps[job]["digest"] for name, job in DATASETS.items()}
    client = MlflowClient(variables["MLFLOW_TRACKING_URI"])
    experiments = [one.experiment_id for one in client.search_experiments()]
    [trained] = client.search_runs(experiments, "tags.task = 'pretrain-dit' and tags.pipeline_run = 'first'")
    assert trained.data.tags["data_rev"] == "latents@v1"


def test_every_model_of_the_lineage_is_a_version_with_its_parent_and_scores(finished: Laptop) -> None:
    steps, registry = finished.steps("first"), ModelRegistry(stack.environment(finished.home)["MLFLOW_TRACKING_URI"])
    for name, job in LINEAGE.items():
        assert registry.get(name, "1").digest == steps[job]["digest"]
        assert steps[job]["revision"] == f"{name}@1"
    tuned = registry.get("sft", "1")
    assert tuned.origin.parent == steps["pretrain-dit"]["digest"]
    assert "eval/geneval/overall" in tuned.scores and "geneval" in tuned.evidence


def test_plain_dvc_pulls_what_a_job_committed(finished: Laptop, tmp_path: Path) -> None:
    variables, clone = stack.environment(finished.home), tmp_path / "clone"
    folders = ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR", "DVC_SITE_CACHE_DIR")
    environ = {**os.environ, **variables, "DVC_NO_ANALYTICS": "1", **dict.fromkeys(folders, str(tmp_path / "settings"))}
    subprocess.run(["git", "clone", "--quiet", variables["IMAGEWRIGHT_REGISTRY_URL"], str(clone)], check=True)
    subprocess.run([sys.executable, "-m", "dvc", "pull", "--quiet", "curated.dvc"], cwd=clone, env=environ, check=True)
    files = json.loads((clone / "curated.json").read_bytes())["files"]
    assert files
    assert all(hashlib.sha256((clone / "curated" / one["path"]).read_bytes()).hexdigest() == one["sha256"] for one in files)


def test_a_second_run_finds_everything(finished: Laptop) -> None:
    finished.call("run", "end_to_end", "--name", "second")
    first, second = finished.steps("first"), finished.steps("second")
    assert finished.done_in("second") == ALWAYS
    assert all(second[name]["digest"] == first[name]["digest"] for name in first.keys() - ALWAYS)


def test_from_runs_only_what_follows_and_makes_the_same_bytes(finished: Laptop) -> None:
    finished.call("run", "end_to_end", "--name", "third", "--from", "export-bundle")
    assert finished.done_in("third") == {"export-bundle"} | ALWAYS
    assert finished.steps("third")["export-bundle"]["digest"] == finished.steps("first")["export-bundle"]["digest"]


def test_a_changed_setting_reruns_exactly_what_reads_it(finished: Laptop) -> None:
    finished.call("run", "end_to_end", "--name", "fourth", "--set", "serving.num_steps=3")
    assert finished.done_in("fourth") == {"export-bundle"} | ALWAYS


def test_a_stage_runs_by_itself_on_records_of_an_earlier_run(finished: Laptop) -> None:
    given = ("--input", "latents=first/encode-latents", "--input", "vae=first/train-vae")
    finished.call("run", "pretraining", "--name", "alone", *given)
    assert finished.steps("alone")["pretrain-dit"]["status"] == "cached"
    assert finished.steps("alone")["pretrain-dit"]["digest"] == finished.steps("first")["pretrain-dit"]["digest"]
    models = [f"{name}=first/{job}" for name, job in (("base", "pretrain-dit"), ("vae", "train-vae"), ("turbo", "distill-turbo"))]
    reported = [part for pair in (*models, "curated=first/curate-manifest") for part in ("--input", pair)]
    finished.call("run", "evaluation", "--name", "judged", *reported)
    assert finished.steps("judged")["evaluate-models"]["counts"]["num_models"] == 2
    finished.call("run", "pretraining", expect=2)


def test_a_pool_scored_in_slices_is_the_same_pool(finished: Laptop) -> None:
    finished.call("run", "data_curation", "--name", "sliced", "--set", "placement.score_slices=2", "--until", "curate-manifest")
    sliced = finished.steps("sliced")
    assert sliced["score-samples"]["counts"]["num_computed"] == 0
    assert (sliced["curate-manifest"]["status"], finished.done_in("sliced")) == ("cached", {"score-samples"})
    assert sliced["curate-manifest"]["digest"] == finished.steps("first")["curate-manifest"]["digest"]


def test_runs_status_and_logs_tell_what_happened(finished: Laptop) -> None:
    assert "succeeded" in finished.call("runs")
    assert "pretrain-dit" in finished.call("status", "first")
    assert finished.call("logs", "first", "--lines", "5").strip()
    finished.call("status", "no-such-run", expect=2)


def test_a_step_that_fails_is_named_with_its_reason(finished: Laptop) -> None:
    out = finished.call("run", "end_to_end", "--name", "refused", "--set", "vae.min_judged_accuracy=1.0", expect=1)
    assert "train-vae" in out
    assert finished.steps("refused")["train-vae"]["status"] == "failed"
    assert finished.steps("refused")["write-report"]["status"] == "done"  # the exit handler runs after a failure
