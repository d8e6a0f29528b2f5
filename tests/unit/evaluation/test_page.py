"""What all pages share: the size limit, and figures people can read."""

from __future__ import annotations

import pytest
from report_case import full_report

from imagewright.evaluation import page
from imagewright.evaluation.page import PageError, figure, seconds, size
from imagewright.evaluation.report import render_report


def test_page_just_at_the_size_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = full_report()
    num_bytes = len(render_report(data).encode())
    monkeypatch.setattr(page, "MAX_PAGE_BYTES", num_bytes + 1)
    render_report(data)
    monkeypatch.setattr(page, "MAX_PAGE_BYTES", num_bytes)
    with pytest.raises(PageError, match="must stay below"):
        render_report(data)


@pytest.mark.parametrize(("value", "shown"), [(3.21, "3.2 s"), (59.94, "59.9 s"), (60.0, "1 min 0 s"), (7800.0, "2 h 10 min")])
def test_times_are_readable(value: float, shown: str) -> None:
    assert seconds(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(999, "999 B"), (1000, "1.0 kB"), (2_500_000, "2.5 MB")])
def test_sizes_are_readable(value: int, shown: str) -> None:
    assert size(value) == shown


def test_cells_are_short_and_never_empty() -> None:
    assert figure(0.123456) == "0.1235"
    assert figure([16, 32]) == "16, 32"
    assert figure(()) == "none"
    assert figure(None) == "\u2013"
