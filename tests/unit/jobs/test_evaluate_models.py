"""Evaluation takes the promoted aesthetic model where its suite is asked for and none was given."""

from __future__ import annotations

from pathlib import Path

from imagewright.config import Config
from imagewright.config.evaluation import EvaluationConfig
from imagewright.jobs.evaluate_models import JOB
from imagewright.storage import open_store
from imagewright.tracking.promotion_log import PromotionEntry, PromotionLog


def test_the_champion_is_an_input_only_where_its_suite_is_asked_for(tmp_path: Path) -> None:
    assert JOB.implied is not None
    store, asked = open_store(f"file://{tmp_path}/store"), Config(evaluation=EvaluationConfig(suites=("aes",)))
    assert JOB.implied(asked, store) == {}
    given = {"id": "1", "model": "aes", "number": 1, "action": "promote", "version": 3, "digest": "a" * 64}
    given |= {"against_number": 0, "against_version": 0, "against_digest": "", "created_at": "2026-01-01"}
    PromotionLog(store, "aes").append(PromotionEntry.model_validate(given))
    champion = JOB.implied(asked, store)["aes"]
    assert (champion.digest, champion.revision) == ("a" * 64, "aes@3")
    assert JOB.implied(Config(), store) == {}
