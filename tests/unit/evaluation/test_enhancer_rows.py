"""Rows with enhancer are reported beside the rows without, every rate and difference with its interval."""

from __future__ import annotations

from imagewright.evaluation.enhancement import Enhancement
from imagewright.evaluation.enhancer_rows import enhancer_metrics, enhancer_note
from imagewright.evaluation.results import ModelResult

PLAIN = {f"p{number}": float(number % 2) for number in range(20)}
BETTER = dict.fromkeys(list(PLAIN)[:10], 1.0)
RATES = Enhancement("id", {f"prompt {number}": "more" if number < 15 else f"prompt {number}" for number in range(20)}, 14).rates()


def row(per_prompt: dict[str, float], *, enhancer: bool) -> ModelResult:
    return ModelResult(
        lineage="sft",
        weights_digest="0",
        enhancer=enhancer,
        num_steps=2,
        guidance_scale=1.0,
        shift=4.0,
        scores=[],
        per_prompt=per_prompt,
        enhancer_fallbacks=0.25 if enhancer else 0.0,
        enhancer_rates=RATES if enhancer else {},
    )


def test_the_gain_is_paired_on_the_prompts_both_were_asked() -> None:
    metrics = enhancer_metrics([row(PLAIN, enhancer=False), row(BETTER, enhancer=True)])
    assert metrics["eval/enhancer_sft/gain"] == 0.5
    assert 0.0 < metrics["eval/enhancer_sft/gain_low"] < 0.5 < metrics["eval/enhancer_sft/gain_high"] <= 1.0
    assert metrics["eval/enhancer_sft/pass_rate"] == 0.7
    assert metrics["eval/enhancer_sft/fallback_rate"] == metrics["eval/enhancer_sft/fallbacks"] == 0.25
    assert metrics["eval/enhancer_sft/pass_rate_low"] < 0.7 < metrics["eval/enhancer_sft/pass_rate_high"]


def test_the_report_says_how_often_prompts_were_kept() -> None:
    note = enhancer_note([row(PLAIN, enhancer=False), row(BETTER, enhancer=True)])
    assert note.startswith("Of 20 prompts the enhancer's first answer keeps every constraint for 0.70 [0.48, 0.85]; 0.25 [")
    assert enhancer_note([row(PLAIN, enhancer=False)]) == ""
    assert enhancer_metrics([row(PLAIN, enhancer=False)]) == {}
