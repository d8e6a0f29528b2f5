"""The gate: a candidate's scores against fixed bounds and against the champion -> one verdict per rule, with its reason."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from imagewright.config.base import Section
from imagewright.config.gate import GateConfig
from imagewright.tracking.scores import Score

# Scores travel as decimal text; a bound met exactly must not fail on the last bit.
TOLERANCE = 1e-12


class Verdict(Section):
    """What one rule says, with the numbers it was decided on."""

    rule: str
    passed: bool
    reason: str


def judge(
    gate: GateConfig,
    scores: Mapping[str, Score],
    champion: Mapping[str, Score] | None,
    evidence: Sequence[str] = (),
    approved_by: str = "",
) -> list[Verdict]:
    """Every rule of the gate, in the order of the configuration. champion: its scores, None when there is no champion yet."""
    return [
        *(judge_bound("floor", name, scores.get(name), low=bound) for name, bound in gate.floors.items()),
        *(judge_bound("ceiling", name, scores.get(name), high=bound) for name, bound in gate.ceilings.items()),
        *(judge_regression(gate, name, scores.get(name), champion) for name in gate.no_regression),
        *(judge_improvement(gate, name, scores.get(name), champion) for name in gate.must_improve),
        *judge_evidence(gate, evidence),
        *judge_limits(gate, scores),
        *judge_approval(gate, approved_by),
    ]


def judge_bound(rule: str, name: str, score: Score | None, low: float = -math.inf, high: float = math.inf) -> Verdict:
    """Value inside [low, high]; a missing score fails, because nobody measured it."""
    title = f"{rule} {name}"
    if score is None:
        return missing(title, name)
    if score.ungated:
        return not_judged(title, score)
    passed = low - TOLERANCE <= score.value <= high + TOLERANCE
    bound, relation = (low, ">=") if high == math.inf else (high, "<=")
    return Verdict(rule=title, passed=passed, reason=f"{score.value:.6g} {relation if passed else 'is not ' + relation} {bound:.6g}")


def judge_regression(gate: GateConfig, name: str, score: Score | None, champion: Mapping[str, Score] | None) -> Verdict:
    """Worse than the champion by at most the interval of the difference.

    With half widths a (candidate, towards better) and b (champion, towards worse) of two independent intervals, the difference has
    half width sqrt(a^2 + b^2). Both models answer the same prompts, so this is wider than a paired interval: it never refuses a
    candidate that a paired test would let pass for noise.
    """
    title = f"no regression of {name}"
    if score is None:
        return missing(title, name)
    if score.ungated:
        return not_judged(title, score)
    before = (champion or {}).get(name)
    if before is None:
        return Verdict(
            rule=title, passed=True, reason="there is no champion yet" if champion is None else "the champion was not measured on it"
        )
    sign = -1.0 if name in gate.lower_is_better else 1.0
    loss = sign * (before.value - score.value)
    ours, theirs = (
        (score.high - score.value, before.value - before.low) if sign > 0 else (score.value - score.low, before.high - before.value)
    )
    margin = math.hypot(ours, theirs)
    passed = loss <= margin + TOLERANCE
    relation = "not worse than" if passed else "worse than"
    return Verdict(
        rule=title, passed=passed, reason=f"{score.value:.6g} is {relation} the champion's {before.value:.6g} beyond +-{margin:.6g}"
    )


def judge_improvement(gate: GateConfig, name: str, score: Score | None, champion: Mapping[str, Score] | None) -> Verdict:
    """Strictly better than the champion."""
    title = f"improvement of {name}"
    if score is None:
        return missing(title, name)
    if score.ungated:
        return not_judged(title, score)
    before = (champion or {}).get(name)
    if before is None:
        return Verdict(
            rule=title, passed=True, reason="there is no champion yet" if champion is None else "the champion was not measured on it"
        )
    passed = score.value < before.value if name in gate.lower_is_better else score.value > before.value
    return Verdict(
        rule=title, passed=passed, reason=f"{score.value:.6g} is {'' if passed else 'not '}better than the champion's {before.value:.6g}"
    )


def judge_evidence(gate: GateConfig, evidence: Sequence[str]) -> Iterator[Verdict]:
    for suite in gate.required_evidence:
        there = suite in evidence
        yield Verdict(
            rule=f"evidence {suite}", passed=there, reason="its results are attached" if there else "no results are attached: evaluate it"
        )


def judge_limits(gate: GateConfig, scores: Mapping[str, Score]) -> Iterator[Verdict]:
    if gate.max_latency_seconds is not None:
        yield judge_bound("latency", gate.latency_metric, scores.get(gate.latency_metric), high=gate.max_latency_seconds)
    if gate.max_unsafe_fraction is not None:
        yield judge_bound("safety", gate.safety_metric, scores.get(gate.safety_metric), high=gate.max_unsafe_fraction)


def judge_approval(gate: GateConfig, approved_by: str) -> Iterator[Verdict]:
    if gate.approval_required:
        reason = f"approved by {approved_by}" if approved_by else "nobody approved: give --approved-by NAME"
        yield Verdict(rule="approval", passed=bool(approved_by), reason=reason)


def not_judged(title: str, score: Score) -> Verdict:
    """A rule on a score that is only shown refuses nothing, and says so."""
    return Verdict(rule=title, passed=True, reason=f"{score.value:.6g} is shown and not judged: {score.ungated}")


def missing(title: str, name: str) -> Verdict:
    return Verdict(rule=title, passed=False, reason=f"the version has no score {name}: evaluate it")
