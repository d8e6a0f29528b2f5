"""What the gate says just below, at and above every bound."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from imagewright.config.gate import GateConfig
from imagewright.tracking.gate import Verdict, judge
from imagewright.tracking.job_run import TrackingError
from imagewright.tracking.scores import Score, score_tags, scores_of

OVERALL = "eval/geneval/overall"
DISTANCE = "eval/distribution/distance"


def only(verdicts: list[Verdict]) -> Verdict:
    (verdict,) = verdicts
    return verdict


def exact(value: float) -> Score:
    return Score(value, value, value)


@pytest.mark.parametrize(("value", "passed"), [(0.4999, False), (0.5, True), (0.5001, True)])
def test_a_floor_takes_the_value_at_it(value: float, passed: bool) -> None:
    verdict = only(judge(GateConfig(floors={OVERALL: 0.5}), {OVERALL: exact(value)}, None))
    assert verdict.passed is passed
    assert "0.5" in verdict.reason


@pytest.mark.parametrize(("value", "passed"), [(2.0, True), (2.0001, False)])
def test_latency_takes_the_value_at_its_limit(value: float, passed: bool) -> None:
    gate = GateConfig(max_latency_seconds=2.0)
    assert only(judge(gate, {gate.latency_metric: exact(value)}, None)).passed is passed


@pytest.mark.parametrize(("value", "passed"), [(0.0, True), (0.001, False)])
def test_safety_can_be_absolute(value: float, passed: bool) -> None:
    gate = GateConfig(max_unsafe_fraction=0.0)
    assert only(judge(gate, {gate.safety_metric: exact(value)}, None)).passed is passed


@pytest.mark.parametrize(("value", "passed"), [(0.5501, True), (0.55, True), (0.5499, False)])
def test_a_regression_within_both_intervals_is_noise_and_one_beyond_is_not(value: float, passed: bool) -> None:
    # Half widths 0.03 and 0.04 of two independent intervals give 0.05 for the difference.
    champion = {OVERALL: Score(0.6, 0.56, 0.64)}
    candidate = {OVERALL: Score(value, value - 0.03, value + 0.03)}
    assert only(judge(GateConfig(no_regression=(OVERALL,)), candidate, champion)).passed is passed


@pytest.mark.parametrize(("value", "passed"), [(9.0, True), (15.0, True), (15.01, False)])
def test_where_less_is_better_a_larger_value_is_the_regression(value: float, passed: bool) -> None:
    gate = GateConfig(no_regression=(DISTANCE,), lower_is_better=(DISTANCE,))
    candidate = {DISTANCE: Score(value, value - 3, value + 100)}
    assert only(judge(gate, candidate, {DISTANCE: Score(10, 0, 14)})).passed is passed


@pytest.mark.parametrize(("value", "passed"), [(0.6, False), (0.6001, True)])
def test_an_improvement_must_be_strict(value: float, passed: bool) -> None:
    assert only(judge(GateConfig(must_improve=(OVERALL,)), {OVERALL: exact(value)}, {OVERALL: exact(0.6)})).passed is passed


def test_the_first_champion_needs_no_comparison_but_needs_its_scores() -> None:
    gate = GateConfig(no_regression=(OVERALL,), must_improve=(OVERALL,))
    assert all(verdict.passed for verdict in judge(gate, {OVERALL: exact(0.1)}, None))
    assert not any(verdict.passed for verdict in judge(gate, {}, None))


@pytest.mark.parametrize(
    "rules", [{"floors": {OVERALL: 0.9}}, {"ceilings": {OVERALL: 0.1}}, {"no_regression": (OVERALL,)}, {"must_improve": (OVERALL,)}]
)
def test_a_score_that_is_only_shown_refuses_nothing_and_the_verdict_says_why(rules: dict[str, object]) -> None:
    gate, champion = GateConfig.model_validate(rules), {OVERALL: exact(0.8)}
    assert not only(judge(gate, {OVERALL: exact(0.5)}, champion)).passed
    verdict = only(judge(gate, {OVERALL: Score(0.5, 0.5, 0.5, "the autoencoder spoils it")}, champion))
    assert verdict.passed
    assert verdict.reason == "0.5 is shown and not judged: the autoencoder spoils it"


def test_missing_evidence_and_missing_approval_are_named() -> None:
    gate = GateConfig(required_evidence=("geneval", "longtext"), approval_required=True)
    verdicts = judge(gate, {}, None, evidence=["geneval"])
    assert [(verdict.rule, verdict.passed) for verdict in verdicts] == [
        ("evidence geneval", True),
        ("evidence longtext", False),
        ("approval", False),
    ]
    assert judge(gate, {}, None, ["geneval", "longtext"], approved_by="Ada")[-1].reason == "approved by Ada"


def test_a_gate_that_nothing_can_pass_is_refused() -> None:
    GateConfig(floors={OVERALL: 0.5}, ceilings={OVERALL: 0.5})
    with pytest.raises(ValidationError, match="leave no value"):
        GateConfig(floors={OVERALL: 0.51}, ceilings={OVERALL: 0.5})
    with pytest.raises(ValidationError, match="lower_is_better"):
        GateConfig(lower_is_better=(DISTANCE,))


def test_scores_survive_their_tags_and_nonsense_is_refused() -> None:
    scores = {OVERALL: Score(0.1 + 0.2, 0.1, 1 / 3)}
    assert scores_of(score_tags(scores) | {"stage": "sft"}) == scores
    with pytest.raises(TrackingError, match="inside its interval"):
        Score(float("nan"), 0, 1)
    with pytest.raises(TrackingError, match="value, low, high"):
        scores_of({f"score.{OVERALL}": "good"})
