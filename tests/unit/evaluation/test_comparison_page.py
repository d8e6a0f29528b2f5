"""What a person sees who opens a comparison of runs."""

from __future__ import annotations

import re

import pytest
from report_case import grid_png, records, results

from imagewright.evaluation import comparison_page
from imagewright.evaluation.comparison import RunView, compare_runs
from imagewright.evaluation.comparison_page import changes, render_comparison


def view(name: str, steps: int, level: float) -> RunView:
    """A run whose models score `level` on every prompt."""
    found = results()
    rows = [row.model_copy(update={"per_prompt": dict.fromkeys(row.per_prompt, level)}) for row in found.models]
    jobs = {
        record.job: record.model_copy(update={"config": {"pretrain": {"steps": steps}}, "metrics": {"loss": 1 / steps}})
        for record in records()
    }
    return RunView(name, jobs, found.model_copy(update={"models": rows}), grid_png())


def test_page_has_every_part_and_opens_offline() -> None:
    runs = [view("one", 8, 0.2), view("two", 16, 0.6), view("three", 8, 0.4)]
    html = render_comparison(compare_runs(runs), runs)
    for title in ("Runs", "Is the difference real?", "Win rate of turbo, run against run", "Scores of turbo", "Settings that differ"):
        assert f"<h2>{title}</h2>" in html
    assert "every dataset of the runs is the same bytes" in html
    assert "<code>pretrain.steps</code>" in html
    assert html.count('class="pill pass">better') == 6
    assert "a &lt;script&gt; &amp; a cross" in html
    assert not re.findall(r"""(?:src|href)=["'](?!data:)|url\(|@import|<script""", html)
    assert len(html.encode()) < 5_000_000


def test_pictures_stand_prompt_by_run() -> None:
    runs = [view("one", 8, 0.2), view("two", 8, 0.6)]
    html = render_comparison(compare_runs(runs), runs)
    assert html.count("data:image/png;base64,") == 3 * 4 * 2
    assert 'alt="two blue stars, two"' in html
    assert "run against run" not in html


def test_models_without_room_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison_page, "MAX_PICTURE_BYTES", 1)
    runs = [view("one", 8, 0.2), view("two", 8, 0.6)]
    assert "No room for base, dpo." in render_comparison(compare_runs(runs), runs)


def test_runs_without_an_evaluation_are_still_compared() -> None:
    runs = [RunView("one", view("one", 8, 0.2).records), view("two", 16, 0.6)]
    html = render_comparison(compare_runs(runs), runs)
    assert "<h2>Settings that differ</h2>" in html
    assert "Is the difference real?" not in html


def test_changes_are_relative_to_the_first_run() -> None:
    assert changes((2.0, 3.0, None, 2.0)) == ["", "+50.0%", "", ""]
    assert changes((0.0, 3.0)) == ["", ""]
    assert changes((None, 3.0)) == ["", ""]
