"""Rows with enhancer are reported beside the rows without, every rate and difference with its interval."""

from __future__ import annotations

from imagewright.evaluation.enhancement import Enhancement
from imagewright.evaluation.enhancer_rows import enhancer_metrics, enhancer_note
from imagewright.evaluation.report import comparisons
from imagewright.evaluation.results import ModelResult

PLAIN = {f"p{number}": float(number % 2) for number in range(20)}
BETTER = dict.fromkeys(list(PLAIN)[:10], 1.0)
RATES = Enhancement("id", {f"prompt {number}": "more" if number < 15 else f"prompt {number}" for number in range(20)}, 14).rates()


def row(per_prompt: dict[str, float], *, enhancer: bool, further: dict[str, dict[str, float]] | None = None) -> ModelResult:
    return ModelResult(
        lineage="sft",
        weights_digest="0",
        enhancer=enhancer,
        num_steps=2,
        guidance_scale=1.0,
        shift=4.0,
        scores=[],
        per_prompt=per_prompt,
        further=further or {},
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


def test_every_further_suite_has_a_gain_of_its_own() -> None:
    plain = row(PLAIN, enhancer=False, further={"dpg": PLAIN, "aes": PLAIN})
    enhanced = row(PLAIN, enhancer=True, further={"dpg": BETTER, "oneig": BETTER})
    metrics = enhancer_metrics([plain, enhanced])
    assert (metrics["eval/enhancer_sft/gain"], metrics["eval/enhancer_sft/dpg_gain"]) == (0.0, 0.5)
    assert metrics["eval/enhancer_sft/dpg_gain_low"] > 0
    assert not {name for name in metrics if "aes" in name or "oneig" in name}
    assert list(comparisons([plain, enhanced])) == ["sft + enhancer against sft", "sft + enhancer against sft, dpg"]
