"""The pretraining job, from a payload of latents to a payload of weights."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1] / "methods"))

from pretrain_cases import MODEL, STAGES, TRAINING, write_latents

from imagewright.config import Config
from imagewright.config.pretrain import PretrainConfig
from imagewright.jobs.job import JobContext, JobInput, load_job
from imagewright.models.diffusers_adapter import load_transformer
from imagewright.storage import open_store
from imagewright.storage.records import Record
from imagewright.tracking.job_run import NullRun


def context(folder: Path, num_processes: int = 1) -> JobContext:
    latents = write_latents(folder / "latents")
    record = Record(job="encode-latents", kind="dataset", digest="a" * 64)
    for name in ("work", "output"):
        (folder / name).mkdir()
    training = TRAINING.model_copy(update={"num_processes": num_processes})
    pretrain = PretrainConfig(stages=STAGES[:1], validation_samples=4, validation_bins=2)
    return JobContext(
        config=Config(model=MODEL, training=training, pretrain=pretrain),
        inputs={"latents": JobInput(record, lambda _: latents)},
        work=folder / "work",
        output=folder / "output",
        run=NullRun(),
        store=open_store(f"file://{folder / 'store'}"),
        seed=5,
        console=Console(quiet=True),
    )


def test_the_job_writes_a_model_and_says_how_training_went(tmp_path: Path) -> None:
    job, module = load_job("pretrain-dit")
    assert (job.kind, job.inputs) == ("model", ("latents",))
    outcome = module.run(context(tmp_path))
    assert outcome.counts["steps"] == 5
    assert {"train/final_loss", "validation/loss", "validation/loss_t1"} <= set(outcome.metrics)
    assert load_transformer(tmp_path / "output" / "transformer").config == MODEL


@pytest.mark.e2e
def test_two_processes_train_the_same_model(tmp_path: Path) -> None:
    _, module = load_job("pretrain-dit")
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one, two = module.run(context(tmp_path / "one")), module.run(context(tmp_path / "two", num_processes=2))
    assert two.counts == one.counts
    for name, value in one.metrics.items():
        assert two.metrics[name] == pytest.approx(value, rel=1e-4)
