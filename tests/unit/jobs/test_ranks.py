"""A whole job as two processes under torchrun: one record, found again by both."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "methods"))

from pretrain_cases import MODEL, write_latents

from imagewright.config import Config
from imagewright.errors import InputError
from imagewright.jobs.frame import run_job
from imagewright.models.diffusers_adapter import load_transformer
from imagewright.storage import open_store
from imagewright.storage.records import Record, read_record, write_record

OVERRIDES = [
    *(f"model.{name}={value}" for name, value in MODEL.model_dump(mode="json").items()),
    "pretrain.stages=[{resolution: 64, steps: 4, batching: {pack_tokens: 160, packs_per_step: 2, lookahead: 32}}]",
    "pretrain.validation_samples=4",
    "training.ema_decay=0.9",
]


def test_a_job_that_knows_no_ranks_refuses_to_be_started_as_several(tmp_path: Path) -> None:
    environ = {"IMAGEWRIGHT_STORE_URL": f"file://{tmp_path / 'store'}", "WORLD_SIZE": "2", "RANK": "0", "IMAGEWRIGHT_WORK": str(tmp_path)}
    with pytest.raises(InputError, match="does not run as several processes"):
        run_job("ingest-raw", Config(), {}, tmp_path / "record.json", environ)


def start(folder: Path, store: str, work: str) -> tuple[Record, str]:
    """Runs pretrain-dit with the command line; returns its record and what it said."""
    record = folder / f"{work}.json"
    record.unlink(missing_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [
        "-m",
        "imagewright.cli.main",
        "job",
        "pretrain-dit",
        "--input",
        f"latents={folder / 'latents.json'}",
        "--output",
        str(record),
    ]
    command += [part for override in OVERRIDES for part in ("--set", override)]
    environ = {**os.environ, "IMAGEWRIGHT_STORE_URL": store, "IMAGEWRIGHT_WORK": str(folder / work), "OMP_NUM_THREADS": "1"}
    environ["IMAGEWRIGHT_RUN_FOLDER"] = str(folder / f"{work}-run")
    environ.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return read_record(record), done.stdout + done.stderr


@pytest.mark.e2e
def test_two_processes_make_one_record_and_find_it_again(tmp_path: Path) -> None:
    url = f"file://{tmp_path / 'store'}"
    store = open_store(url)
    digest = store.put_folder(write_latents(tmp_path / "latents"), dvc_layout=True)
    write_record(Record(job="encode-latents", kind="dataset", digest=digest), tmp_path / "latents.json")
    two, _ = start(tmp_path, url, "two")
    assert store.exists(two.digest)
    assert len(store.list_named("actions/")) == 1
    assert not list((tmp_path / "two").glob("*/output-of-process-*"))
    again, said = start(tmp_path, url, "elsewhere")
    assert again == two
    assert said.count("found an earlier result") == 1
    store.get(two.digest, tmp_path / "weights")
    assert load_transformer(tmp_path / "weights" / "transformer").config == MODEL
    assert (two.counts["steps"], two.action_key) == (4, store.list_named("actions/")[0].removeprefix("actions/").removesuffix(".json"))
