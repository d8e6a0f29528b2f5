"""What a reader of the report gets: one small file that opens offline and says everything it should."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from report_case import full_report

from imagewright.evaluation import report
from imagewright.evaluation.report import ReportData, ReportError, render_report, seconds, write_report


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


def test_report_just_at_the_size_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = full_report()
    size = len(render_report(data).encode())
    monkeypatch.setattr(report, "MAX_REPORT_BYTES", size + 1)
    render_report(data)
    monkeypatch.setattr(report, "MAX_REPORT_BYTES", size)
    with pytest.raises(ReportError, match="must stay below"):
        render_report(data)


@pytest.mark.parametrize(("value", "shown"), [(3.21, "3.2 s"), (59.94, "59.9 s"), (60.0, "1 min 0 s"), (7800.0, "2 h 10 min")])
def test_times_are_readable(value: float, shown: str) -> None:
    assert seconds(value) == shown
