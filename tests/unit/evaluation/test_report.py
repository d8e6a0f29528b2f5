"""What a reader of the report gets: one small file that opens offline and says everything it should."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from report_case import full_report

from imagewright.evaluation.report import ReportData, render_report, write_report


def test_report_shows_every_part() -> None:
    html = render_report(full_report())
    for title in ("Scores", "What the judge is worth", "Stage against stage", "Gate", "Data funnel", "Training curves", "Lineage and cost"):
        assert f"<h2>{title}</h2>" in html
    assert "gate refused" in html
    assert "Kept + dropped = in" in html
    assert "exact duplicate" in html
    assert "curate-manifest (curate-manifest)" in html


def test_report_opens_offline(tmp_path: Path) -> None:
    write_report(full_report(), tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=["'](?!data:)|url\(|@import|<script""", html)
    assert (tmp_path / "report.html").stat().st_size < 5_000_000


def test_prompts_are_text_not_markup() -> None:
    html = render_report(full_report())
    assert "a &lt;script&gt; &amp; a cross" in html


def test_numbers_that_do_not_add_up_are_said() -> None:
    data = full_report()
    broken = data.records[0].model_copy(update={"counts": data.records[0].counts | {"num_kept": 900}})
    assert "Kept + dropped does not equal in" in render_report(replace(data, records=[broken]))


def test_parts_without_data_are_left_out() -> None:
    html = render_report(ReportData(title="Empty run"))
    assert "Empty run" in html
    assert "<h2>" not in html
