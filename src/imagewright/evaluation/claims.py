"""What a run shows and what it does not show yet: each stage's claim with its figure and the rule that decides it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from imagewright.evaluation.calibration import MIN_TRUE_POSITIVE
from imagewright.evaluation.page import name_of
from imagewright.evaluation.results import Results
from imagewright.evaluation.score_table import ceiling_of
from imagewright.storage.records import Record

MIN_CEILING = 0.9
MIN_SEEN_SRCC = 0.85
MIN_PASS_RATE = 0.7
TASK_TARGETS = {"single": 0.9, "colors": 0.9}
"""Tasks that even a small model learns; every other one is held against half of what the autoencoder leaves."""
CEILING_SHARE = 0.5


@dataclass(frozen=True)
class RunClaim:
    """A statement about the run, whether it is shown, the figure, and the rule."""

    name: str
    holds: bool
    figure: str
    rule: str


def claims_of(records: Sequence[Record], results: Results | None) -> list[RunClaim]:
    """Claims in the order of the data flow; a stage that did not run claims nothing."""
    metrics = {record.job: record.metrics for record in records}
    found = list(scene_claims(results)) if results else []
    if (tuned := metrics.get("finetune-sft")) is not None:
        found += tuning_claims(tuned)
    for job, make in (
        ("train-aesthetic", seen_claim),
        ("evaluate-aesthetic", ranking_claim),
        ("judge-alignment", alignment_claim),
        ("train-enhancer", enhancer_claim),
    ):
        found += make(metrics[job]) if job in metrics else ()
    return found + list(drift_claims(metrics.get("measure-drift", {})))


def scene_claims(results: Results) -> Iterator[RunClaim]:
    """The autoencoder's ceiling, then every task of the last stage on seen prompts."""
    card = results.judge
    if (ceiling := card.ceiling_through_vae) is not None:
        rule = f"at least {MIN_CEILING} of ground truth is right after encode and decode"
        yield RunClaim("The autoencoder keeps scenes readable", ceiling >= MIN_CEILING, f"{ceiling:.2f}", rule)
    row = next((row for row in reversed(results.models) if not row.enhancer), None)
    for score in row.scores if row else ():
        ceiling = ceiling_of(card, (), (score.suite, score.split, score.task))
        if row is None or score.split != "seen" or score.task == "overall" or ceiling is None:
            continue
        least = TASK_TARGETS.get(score.task, CEILING_SHARE * ceiling)
        rule = f"at least {least:.2f}; the autoencoder leaves {ceiling:.2f}"
        figure = f"{score.value:.2f} [{score.low:.2f}, {score.high:.2f}]"
        yield RunClaim(f"{name_of(row)} paints {score.task.replace('_', ' ')}", score.value >= least, figure, rule)


def tuning_claims(metrics: Mapping[str, float]) -> Iterator[RunClaim]:
    """Fine-tuning and its experts, domain by domain."""
    prefix = "sft/validation_loss_before_"
    before = {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}
    after = {domain: metrics[f"sft/validation_loss_{domain}"] for domain in before if f"sft/validation_loss_{domain}" in metrics}
    if after:
        lower = [domain for domain, loss in after.items() if loss < before[domain]]
        figure, rule = f"{len(lower)} of {len(after)} domains", "lower on held-out samples of every domain"
        yield RunClaim("Fine-tuning lowers the loss of its domains", len(lower) == len(after), figure, rule)
    lows = [value for name, value in metrics.items() if name.startswith("sft/expert_gain_") and name.endswith("_low")]
    if lows:
        figure = f"{sum(low > 0 for low in lows)} of {len(lows)} experts"
        rule = "its gain on its own domain has an interval above zero, for every expert"
        yield RunClaim("Domain experts beat the fine-tuned model", all(low > 0 for low in lows), figure, rule)


def seen_claim(metrics: Mapping[str, float]) -> Iterator[RunClaim]:
    """The aesthetic model on damage it was trained on."""
    if "aesthetic/seen_srcc" in metrics:
        rule = f"SRCC of at least {MIN_SEEN_SRCC} on damage of kinds it was trained on"
        holds = metrics["aesthetic/seen_srcc"] >= MIN_SEEN_SRCC
        yield RunClaim("The aesthetic model orders pictures", holds, interval(metrics, "aesthetic/seen_srcc"), rule)


def ranking_claim(metrics: Mapping[str, float]) -> Iterator[RunClaim]:
    """The aesthetic model on the generator's own pictures."""
    if "aesthetic/generator_srcc" in metrics:
        rule = "agreement with shape integrity on the generator's pictures, intervals above zero"
        holds = metrics.get("aesthetic/may_rank", 0.0) > 0
        yield RunClaim("The aesthetic model may rank preferences", holds, interval(metrics, "aesthetic/generator_srcc"), rule)


def alignment_claim(metrics: Mapping[str, float]) -> Iterator[RunClaim]:
    """Preference alignment against the fine-tuned model."""
    if "alignment/win_rate" in metrics:
        accuracy = metrics.get("alignment/judge_accuracy", 0.0)
        least = metrics.get("alignment/min_judge_accuracy", MIN_TRUE_POSITIVE)
        rule = f"win rate above 0.5 by its interval, and a judge that is right in {least:.2f} (it is in {accuracy:.2f})"
        holds = metrics.get("alignment/shown", 0.0) > 0
        yield RunClaim("Alignment beats fine-tuning", holds, interval(metrics, "alignment/win_rate"), rule)


def enhancer_claim(metrics: Mapping[str, float]) -> Iterator[RunClaim]:
    """The enhancer's first answers on held-out prompts."""
    if "enhancer/trained_pass_rate" in metrics:
        rule = f"at least {MIN_PASS_RATE} of first answers keep every constraint"
        holds = metrics["enhancer/trained_pass_rate"] >= MIN_PASS_RATE
        yield RunClaim("The enhancer keeps what was asked", holds, interval(metrics, "enhancer/trained_pass_rate"), rule)


def drift_claims(metrics: Mapping[str, float]) -> Iterator[RunClaim]:
    """The claims of the capability-drift report, by the lower bounds of their paired intervals."""
    for name, low in metrics.items():
        if name.startswith("drift/claim_") and name.endswith("_low"):
            words = name.removeprefix("drift/claim_").removesuffix("_low").replace("_", " ")
            words = words.replace(" nfe", " NFE").replace("mt dmd", "MT-DMD").replace("teacher dmd", "teacher DMD")
            strict = "not inferior" not in words
            rule = "the paired interval lies above zero" if strict else "the paired interval does not reach below the accepted loss"
            yield RunClaim(words[0].upper() + words[1:], low > 0 if strict else low >= 0, f"lower bound {low:+.3f}", rule)


def interval(metrics: Mapping[str, float], name: str) -> str:
    """ "0.80 [0.58, 0.92]", or the value alone."""
    value = f"{metrics[name]:.2f}"
    bounds = f"{name}_low", f"{name}_high"
    return f"{value} [{metrics[bounds[0]]:.2f}, {metrics[bounds[1]]:.2f}]" if all(bound in metrics for bound in bounds) else value
