"""The report says of every stage whether its claim is shown, by the rule beside it."""

from __future__ import annotations

from dataclasses import replace

from report_case import full_report, results

from imagewright.evaluation.claims import RunClaim, claims_of
from imagewright.evaluation.report import render_report
from imagewright.storage.records import Record


def made(job: str, **metrics: float) -> Record:
    named = {name.replace("__", "/", 1): value for name, value in metrics.items()}
    return Record(job=job, kind="model", digest="0" * 64, metrics=named)


def only(record: Record) -> RunClaim:
    (found,) = claims_of([record], None)
    return found


def test_tasks_of_the_last_stage_are_held_against_their_ceiling() -> None:
    found = {claim.name: claim for claim in claims_of([], results())}
    assert list(found) == ["The autoencoder keeps scenes readable", *(f"turbo paints {name}" for name in TASKS)]
    assert found["The autoencoder keeps scenes readable"].holds
    single, counting = found["turbo paints single"], found["turbo paints counting"]
    assert (single.holds, single.figure, single.rule) == (False, "0.70 [0.62, 0.78]", "at least 0.90; the autoencoder leaves 0.93")
    assert (counting.holds, counting.rule) == (True, "at least 0.47; the autoencoder leaves 0.93")


TASKS = ("single", "two", "counting", "colors", "position", "color attr")


def test_fine_tuning_must_help_every_domain() -> None:
    losses = {"sft__validation_loss_before_flat": 0.4, "sft__validation_loss_flat": 0.3, "sft__validation_loss_before_dark": 0.4}
    assert only(made("finetune-sft", **losses, sft__validation_loss_dark=0.39)).holds
    worse = only(made("finetune-sft", **losses, sft__validation_loss_dark=0.4))
    assert (worse.holds, worse.figure) == (False, "1 of 2 domains")
    experts = only(made("finetune-sft", sft__expert_gain_flat=0.1, sft__expert_gain_flat_low=0.01, sft__expert_gain_dark_low=-0.01))
    assert (experts.holds, experts.figure) == (False, "1 of 2 experts")


def test_a_single_win_rate_above_a_half_is_not_enough() -> None:
    figures = {"alignment__win_rate": 0.53, "alignment__win_rate_low": 0.5, "alignment__win_rate_high": 0.56}
    claim = only(made("judge-alignment", **figures, alignment__shown=0.0, alignment__judge_accuracy=0.8, alignment__min_judge_accuracy=0.9))
    assert (claim.holds, claim.figure) == (False, "0.53 [0.50, 0.56]")
    assert "right in 0.90 (it is in 0.80)" in claim.rule
    assert only(made("judge-alignment", **figures, alignment__shown=1.0)).holds


def test_distillation_answers_for_the_bounds_of_its_drift() -> None:
    names = ("drift__claim_mt_dmd_is_not_inferior_at_8_nfe_low", "drift__claim_mt_dmd_beats_folding_at_4_nfe_low")
    kept, better = claims_of([made("measure-drift", **dict.fromkeys(names, 0.0))], None)
    assert (kept.name, kept.holds, kept.figure) == ("MT-DMD is not inferior at 8 NFE", True, "lower bound +0.000")
    assert (better.name, better.holds) == ("MT-DMD beats folding at 4 NFE", False)


def test_scorer_and_enhancer_have_their_bounds() -> None:
    assert only(made("train-aesthetic", aesthetic__seen_srcc=0.85)).holds
    assert not only(made("train-aesthetic", aesthetic__seen_srcc=0.849)).holds
    assert not only(made("evaluate-aesthetic", aesthetic__generator_srcc=0.5, aesthetic__may_rank=0.0)).holds
    assert not only(made("train-enhancer", enhancer__trained_pass_rate=0.69)).holds


def test_the_report_lists_what_is_not_shown_and_a_stage_that_did_not_run_claims_nothing() -> None:
    assert claims_of([made("pretrain-dit"), made("finetune-sft")], None) == []
    html = render_report(replace(full_report(), records=[made("train-enhancer", enhancer__trained_pass_rate=0.5)]))
    assert "<h2>Shown, and not shown yet</h2>" in html
    assert "<td>The enhancer keeps what was asked</td>" in html and "not shown</span>" in html
