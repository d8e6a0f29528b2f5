"""Which model of a run is promoted: the furthest one, and never an alignment that handed on the fine-tuned weights."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from imagewright.config import Config
from imagewright.jobs.job import JobContext, JobInput
from imagewright.jobs.promote_model import furthest_given
from imagewright.storage import open_store
from imagewright.storage.records import Record
from imagewright.tracking.job_run import NullRun


def context(folder: Path, digests: dict[str, str]) -> JobContext:
    """A promotion with these models as inputs: name -> a letter standing for the payload."""
    inputs = {name: JobInput(Record(job="any", kind="model", digest=letter * 64), lambda _: folder) for name, letter in digests.items()}
    store = open_store(f"file://{folder / 'store'}")
    return JobContext(Config(), inputs, folder, folder, NullRun(), store, seed=0, console=Console())


def test_the_furthest_model_is_promoted(tmp_path: Path) -> None:
    assert furthest_given(context(tmp_path, {"base": "a", "sft": "b", "dpo": "c", "turbo": "d"})) == "turbo"
    assert furthest_given(context(tmp_path, {"base": "a", "sft": "b", "dpo": "c"})) == "dpo"


def test_an_alignment_that_was_not_shown_to_help_leaves_the_fine_tuned_model(tmp_path: Path) -> None:
    assert furthest_given(context(tmp_path, {"base": "a", "sft": "b", "dpo": "b"})) == "sft"


def test_an_alignment_without_its_parent_still_counts(tmp_path: Path) -> None:
    assert furthest_given(context(tmp_path, {"base": "a", "dpo": "b"})) == "dpo"
