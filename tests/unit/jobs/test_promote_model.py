"""Which model of a run is promoted: the furthest one, and never an alignment that handed on the fine-tuned weights."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from imagewright.config import Config
from imagewright.evaluation.results import JudgeCard, ModelResult, Results, Score, SuiteCard
from imagewright.jobs.job import JobContext, JobInput
from imagewright.jobs.promote_model import furthest_given, suites_of, version_scores
from imagewright.storage import open_store
from imagewright.storage.records import Record
from imagewright.tracking.job_run import NullRun
from imagewright.tracking.scores import Score as VersionScore


def context(folder: Path, digests: dict[str, str]) -> JobContext:
    """A promotion with these models as inputs: name -> a letter standing for the payload."""
    inputs = {name: JobInput(Record(job="any", kind="model", digest=letter * 64), lambda _: folder) for name, letter in digests.items()}
    store = open_store(f"file://{folder / 'store'}")
    return JobContext(Config(), inputs, folder, folder, NullRun(), store, seed=0, console=Console())


def test_a_version_carries_the_scores_of_its_plain_row_and_what_gates_leave_alone() -> None:
    card = JudgeCard(name="judge", digest="0", num_images=2, ceiling=1.0, ceiling_through_vae=1.0, floors={})
    flat, dark = (
        Score(suite="domains", split="", task=task, value=0.5, low=0.4, high=0.6, num_prompts=4, num_images=8) for task in ("flat", "dark")
    )
    whole = Score(suite="geneval", split="compositional", task="overall", value=0.5, low=0.4, high=0.6, num_prompts=4, num_images=8)
    rows = [
        ModelResult(
            lineage="turbo", weights_digest="0", enhancer=enhancer, num_steps=8, guidance_scale=1.0, shift=4.0, scores=scores, per_prompt={}
        )
        for enhancer, scores in ((False, [flat, dark, whole]), (True, [flat.model_copy(update={"value": 0.45})]))
    ]
    suites = [SuiteCard(suite="domains", ungated={"dark": "too dark"})]
    results = Results(judge=card, prompts={}, images_per_prompt=2, resolution_px=32, models=rows, suites=suites)
    assert version_scores(results, "turbo") == {
        "eval/domains/flat": VersionScore(0.5, 0.4, 0.6),
        "eval/domains/dark": VersionScore(0.5, 0.4, 0.6, "too dark"),
        "eval/geneval_compositional/overall": VersionScore(0.5, 0.4, 0.6),
    }
    assert suites_of(results, "turbo") == ["domains", "geneval"]
    assert (version_scores(results, "sft"), suites_of(results, "sft")) == ({}, [])


def test_the_furthest_model_is_promoted(tmp_path: Path) -> None:
    assert furthest_given(context(tmp_path, {"base": "a", "sft": "b", "dpo": "c", "turbo": "d"})) == "turbo"
    assert furthest_given(context(tmp_path, {"base": "a", "sft": "b", "dpo": "c"})) == "dpo"


def test_an_alignment_that_was_not_shown_to_help_leaves_the_fine_tuned_model(tmp_path: Path) -> None:
    assert furthest_given(context(tmp_path, {"base": "a", "sft": "b", "dpo": "b"})) == "sft"


def test_an_alignment_without_its_parent_still_counts(tmp_path: Path) -> None:
    assert furthest_given(context(tmp_path, {"base": "a", "dpo": "b"})) == "dpo"
