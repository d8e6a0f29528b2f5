"""Preference ranking takes the aesthetic model by its alias: the evidence and the ranking, each in the job that a container runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixtures.promoted_scorer import promote_scorer
from fixtures.tuned_model import TunedModel, write_tuned

from imagewright.config import Config, load_recipe
from imagewright.data.preferences import read_pairs
from imagewright.errors import InputError
from imagewright.evaluation.aes_agreement import EVIDENCE_NAME, AesEvidence, Figure, SourceFigures, read_evidence
from imagewright.jobs.frame import run_job
from imagewright.storage.records import Record

SETTINGS = ["threads=1", "preferences.num_prompts=2", "aes.evidence_prompts=3", "aes.evidence_low_steps=[1]"]


@pytest.fixture
def config() -> Config:
    return load_recipe("debug", [*SETTINGS, "preferences.aes_weight=0.5"])


@pytest.fixture
def tuned(config: Config, tmp_path: Path) -> TunedModel:
    return write_tuned(config, tmp_path)


def evidence_about(tuned: TunedModel, aes_digest: str, folder: Path) -> Record:
    """Evidence, written by hand, that a scorer agrees with the tuned model's samples."""
    good = SourceFigures(model=Figure(srcc=0.5, low=0.4, high=0.6, num=40), baseline=None, mean_integrity=0.5)
    evidence = AesEvidence(
        aes_digest=aes_digest,
        generator_digest=tuned.given["sft"].digest,
        origin="simulated",
        baseline="contrast",
        overall=good,
        samples=good,
        sources={},
    )
    folder.mkdir()
    (folder / EVIDENCE_NAME).write_text(evidence.model_dump_json())
    return Record(job="import", kind="results", digest=tuned.store.put_folder(folder))


def test_evidence_is_taken_about_the_champion(config: Config, tuned: TunedModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no aesthetic model was promoted"):
        run_job("evaluate-aesthetic", config, tuned.given, tmp_path / "evidence.json", tuned.environ)
    idle = run_job("evaluate-aesthetic", load_recipe("debug", SETTINGS), tuned.given, tmp_path / "evidence.json", tuned.environ).record
    assert idle.metrics == {"aesthetic/may_rank": 0.0} and "aes" not in idle.inputs
    digest = promote_scorer(tuned.store, tmp_path / "first", 1, seed=0)
    record = run_job("evaluate-aesthetic", config, tuned.given, tmp_path / "evidence.json", tuned.environ).record
    assert record.inputs["aes"] == digest
    tuned.store.get(record.digest, tmp_path / "found")
    assert read_evidence(tmp_path / "found").aes_digest == digest


def test_the_champion_ranks_and_another_champion_has_to_earn_its_right(config: Config, tuned: TunedModel, tmp_path: Path) -> None:
    digest = promote_scorer(tuned.store, tmp_path / "first", 1, seed=0)
    given = {**tuned.given, "aes_evidence": evidence_about(tuned, digest, tmp_path / "evidence")}
    record = run_job("build-preferences", config, given, tmp_path / "pairs.json", tuned.environ).record
    assert record.inputs["aes"] == digest
    tuned.store.get(record.digest, tmp_path / "pairs")
    assert all("aesthetic" in json.loads(pair.scores) for pair in read_pairs(tmp_path / "pairs"))
    promote_scorer(tuned.store, tmp_path / "second", 2, seed=1)
    with pytest.raises(InputError, match="must be that of the input aes"):
        run_job("build-preferences", config, given, tmp_path / "pairs.json", tuned.environ)


def test_without_a_weight_no_champion_is_asked_for(tuned: TunedModel, tmp_path: Path) -> None:
    promote_scorer(tuned.store, tmp_path / "first", 1, seed=0)
    record = run_job("build-preferences", load_recipe("debug", SETTINGS), tuned.given, tmp_path / "pairs.json", tuned.environ).record
    assert "aes" not in record.inputs
