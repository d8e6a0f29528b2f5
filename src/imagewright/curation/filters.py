"""The one step that decides: scores in, `drop_reason` out. Every sample is kept or has exactly one reason; none disappears."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from imagewright.config.curation import FilterConfig

REASON_STAGE = {
    "bad_image": "probe",
    "too_small": "probe",
    "aspect": "probe",
    "licence": "licence",
    "no_caption": "captioning",
    "unsafe": "safety",
    "compression": "quality",
    "blank": "quality",
    "border": "quality",
    "blur": "quality",
    "watermark": "quality",
    "duplicate_exact": "dedup",
    "duplicate_near": "dedup",
    "duplicate_embedding": "dedup",
    "caption_mismatch": "agreement",
}
"""Which stage of the funnel a reason belongs to; a bad image's own reason (empty, broken, ...) belongs to the probe."""
STAGES = ("probe", "licence", "captioning", "safety", "quality", "dedup", "agreement")

LINES = "string_split(ocr_text, chr(10))"


@dataclass(frozen=True)
class Rule:
    """One reason to keep a sample out: an SQL condition over the score columns that is true when the rule is broken."""

    reason: str
    condition: str
    needs: tuple[str, ...]
    """Columns; the rule is left out when the pool lacks one (its stage did not run)."""


def rules(section: FilterConfig) -> list[Rule]:
    """Rules in the order they are asked, cheapest evidence first. Numbers come from validated settings."""
    licences = ", ".join("'" + name.replace("'", "''") + "'" for name in section.licences)
    side, longer = "least(width, height)", "greatest(width, height)"
    agreement = [Rule("caption_mismatch", f"score_agreement < {section.min_agreement!r}", ("score_agreement",))]
    return [
        Rule("too_small", f"{side} < {section.min_side_px}", ()),
        Rule("aspect", f"{longer} > {section.max_aspect!r} * {side}", ()),
        Rule("licence", f"licence NOT IN ({licences or 'NULL'})", ()),
        Rule("no_caption", "len(captions) = 0", ()),
        Rule("unsafe", f"score_nsfw > {section.max_nsfw!r}", ("score_nsfw",)),
        Rule("compression", f"score_bytes_per_pixel < {section.min_bytes_per_pixel!r}", ("score_bytes_per_pixel",)),
        Rule("compression", f"score_jpeg_quality < {section.min_jpeg_quality!r}", ("score_jpeg_quality",)),
        Rule("blank", f"score_entropy < {section.min_entropy!r}", ("score_entropy",)),
        Rule("border", f"score_border > {section.max_border!r}", ("score_border",)),
        Rule("blur", f"score_blur > {section.max_blur!r}", ("score_blur",)),
        Rule("watermark", f"visible_text = '' AND score_text_coverage > {section.max_text_coverage!r}", ("score_text_coverage",)),
        Rule("watermark", f"len(list_distinct({LINES})) < len({LINES})", ("ocr_text",)),
        *(agreement if section.min_agreement > 0 else []),
    ]


def decide(table: pa.Table, asked: Sequence[Rule]) -> pa.Table:
    """Fills `drop_reason` of a manifest-like table; a reason that is already there (bad image, duplicate) stays.

    Raises nothing for a bad row: a null score breaks no rule. kept + dropped = rows, to the row.
    """
    asked = [rule for rule in asked if all(name in table.column_names for name in rule.needs)]
    if not asked:
        return table
    cases = " ".join(f"WHEN {rule.condition} THEN '{rule.reason}'" for rule in asked)
    connection = duckdb.connect()
    # A scan of an Arrow table in DuckDB does not keep the order of its rows.
    connection.register("pool", table.append_column("row_number", pa.array(range(table.num_rows), pa.int64())))
    decision = f"CASE WHEN drop_reason <> '' THEN drop_reason {cases} ELSE '' END"
    query = f"SELECT {decision} AS reason FROM pool ORDER BY row_number"  # noqa: S608 - validated settings
    reasons = pa.array([reason for (reason,) in connection.execute(query).fetchall()], pa.string())
    assert len(reasons) == table.num_rows, "the decision has one reason per row"
    return table.set_column(table.column_names.index("drop_reason"), table.schema.field("drop_reason"), reasons)


def stage_of(reason: str) -> str:
    """Stage of the funnel that a drop_reason belongs to."""
    return REASON_STAGE.get(reason, "probe")
