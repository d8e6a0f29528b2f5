"""The decision: one reason a row at most, thresholds inclusive on the good side, nulls break no rule."""

from __future__ import annotations

import pyarrow as pa
import pytest

from imagewright.config.curation import FilterConfig
from imagewright.curation.filters import REASON_STAGE, STAGES, decide, rules
from imagewright.data.manifest import Caption, ManifestRow, rows_to_table

SECTION = FilterConfig()


def row(key: str, **changes: object) -> ManifestRow:
    values = {"width": 64, "height": 64, "licence": "CC0-1.0", "captions": (Caption("short", "en", "a"),), **changes}
    return ManifestRow(key, "s.tar", 0, 1, "0" * 64, **values)  # type: ignore[arg-type]


def reasons(rows: list[ManifestRow], **scores: list[float | None]) -> list[str]:
    table = rows_to_table(rows)
    for name, values in scores.items():
        table = table.append_column(name, pa.array(values, pa.float32()))
    return [str(reason) for reason in decide(table, rules(SECTION))["drop_reason"].to_pylist()]


@pytest.mark.parametrize(
    ("good", "bad", "reason"),
    [
        ({"height": 24}, {"height": 23}, "too_small"),
        ({"width": 192}, {"width": 193}, "aspect"),
        ({"licence": "MIT"}, {"licence": "all rights reserved"}, "licence"),
        ({}, {"captions": ()}, "no_caption"),
        ({"drop_reason": ""}, {"drop_reason": "broken"}, "broken"),
    ],
)
def test_each_rule_has_a_just_good_and_a_just_bad_case(good: dict[str, object], bad: dict[str, object], reason: str) -> None:
    assert reasons([row("g", **good), row("b", **bad)]) == ["", reason]


@pytest.mark.parametrize(
    ("name", "good", "bad", "reason"),
    [
        ("score_nsfw", 0.79, 0.81, "unsafe"),
        ("score_entropy", 0.06, 0.04, "blank"),
        ("score_blur", SECTION.max_blur - 0.01, SECTION.max_blur + 0.01, "blur"),
        ("score_border", 0.94, 0.96, "border"),
        ("score_jpeg_quality", 21.0, 19.0, "compression"),
        ("score_bytes_per_pixel", 0.006, 0.004, "compression"),
    ],
)
def test_each_score_has_a_threshold_and_a_missing_score_breaks_no_rule(name: str, good: float, bad: float, reason: str) -> None:
    assert reasons([row("g"), row("b"), row("n")], **{name: [good, bad, None]}) == ["", reason, ""]


def test_words_that_repeat_across_a_picture_are_a_watermark() -> None:
    table = rows_to_table([row("a"), row("b"), row("c")])
    table = table.append_column("ocr_text", pa.array(["SAMPLE\nSAMPLE", "BIG SALE\nTODAY ONLY", ""]))
    assert decide(table, rules(SECTION))["drop_reason"].to_pylist() == ["watermark", "", ""]


def test_declared_text_is_not_a_watermark() -> None:
    strict = rules(FilterConfig(max_text_coverage=0.2))
    table = rows_to_table([row("p", visible_text="BIG SALE"), row("q")]).append_column(
        "score_text_coverage", pa.array([0.9, 0.9], pa.float32())
    )
    assert decide(table, strict)["drop_reason"].to_pylist() == ["", "watermark"]


def test_the_first_broken_rule_gives_the_reason_and_every_reason_has_a_stage() -> None:
    assert reasons([row("x", height=10, licence="none")]) == ["too_small"]
    assert {REASON_STAGE[rule.reason] for rule in rules(SECTION)} <= set(STAGES)


def test_a_big_pool_keeps_its_order() -> None:
    rows = [row(f"k{i}", height=10 if i % 7 == 0 else 64) for i in range(5000)]
    assert reasons(rows) == ["too_small" if i % 7 == 0 else "" for i in range(5000)]
