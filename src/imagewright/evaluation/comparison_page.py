"""The page behind `imagewright compare --html`: any number of runs side by side in one file that opens offline."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

from PIL import Image

from imagewright.evaluation.comparison import Comparison, RunView, models_of
from imagewright.evaluation.grid import cut_cells
from imagewright.evaluation.page import figure, name_of, render_page, seconds
from imagewright.evaluation.score_table import TOTALS, paired_rows, paired_scale, score_groups

NUM_COLOURS = 6
"""Runs beyond take the colours from the start."""
MAX_PICTURE_BYTES = 3_400_000
"""Bytes of all pictures before base64: two thirds of a page, the rest is for tables."""


def render_comparison(found: Comparison, runs: Sequence[RunView]) -> str:
    """Returns the HTML. Raises PageError when it would be 5 MB or more."""
    return render_page("comparison.html", comparison_variables(found, runs), "compare fewer runs at once")


def comparison_variables(found: Comparison, runs: Sequence[RunView]) -> dict[str, Any]:
    """The template's variables."""
    changed = {name: values for name, values in found.metrics.items() if any(value != values[0] for value in values)}
    grids, left_out = picture_grids(found, runs)
    return {
        "title": f"{len(found.runs)} runs compared",
        "subtitle": f"Everything is measured against {found.runs[0]}, the first.",
        "runs": found.runs,
        "facts": run_rows(found),
        "headline": found.headline,
        "score_groups": score_groups(found.scores.get(found.headline, ())),
        "other_models": [(model, score_groups(rows)) for model, rows in found.scores.items() if model != found.headline],
        "colours": [f"var(--run{place})" for place in range(NUM_COLOURS)],
        "paired": paired_rows(found.paired),
        "paired_scale": paired_scale(found.paired.values()),
        "wins": [[None if value is None else round(100 * value) for value in row] for row in found.wins] if len(found.runs) > 2 else [],
        "grids": grids,
        "grids_left_out": left_out,
        "settings": table_rows(found.settings),
        "data": table_rows(found.data),
        "counts": table_rows(found.counts),
        "metrics": [(name, [figure(value) for value in values], changes(values)) for name, values in changed.items()],
        "same_metrics": len(found.metrics) - len(changed),
        "footer": "Self-contained: opens offline. Written by imagewright compare.",
    }


def run_rows(found: Comparison) -> list[dict[str, Any]]:
    """One row a run, with the overall scores of the headline model."""
    rows = []
    for place, (name, facts) in enumerate(zip(found.runs, found.facts, strict=True)):
        headline = found.scores.get(found.headline, ())
        overall = [(f"{row.suite}, {row.split}", row.values[place]) for row in headline if row.task in TOTALS]
        rows.append(
            {
                "name": name,
                "commit": ", ".join(dict.fromkeys(commit[:10] for commit in facts.git_commit.split(", ") if commit)) or "unknown",
                "started": facts.started.replace("T", " ").removesuffix("+00:00"),
                "steps": facts.steps,
                "wall": seconds(facts.wall_seconds),
                "overall": overall,
            }
        )
    return rows


def table_rows(table: dict[str, tuple[Any, ...]]) -> list[tuple[str, list[tuple[str, bool]]]]:
    """Name, and for each run the text and whether it differs from the first run's."""
    return [(name, [(figure(value), value != values[0]) for value in values]) for name, values in table.items()]


def changes(values: Sequence[float | None]) -> list[str]:
    """Relative change of every later value against the first, where both are known and the first is not zero."""
    first = values[0]
    shown = [""]
    for value in values[1:]:
        shown.append(f"{100 * (value - first) / abs(first):+.1f}%" if first and value is not None and value != first else "")
    return shown


def picture_grids(found: Comparison, runs: Sequence[RunView]) -> tuple[list[dict[str, Any]], list[str]]:
    """One grid a model that two runs or more painted: shared prompts down, runs across; and the models there was no room for.

    The headline model comes first and is always shown.
    """
    shown = [(run, models_of(run)) for run in runs]
    names = list(dict.fromkeys(name for _, models in shown for name in models))
    names.sort(key=lambda name: name != found.headline)
    grids: list[dict[str, Any]] = []
    left_out: list[str] = []
    used = 0
    for name in names:
        members = [run for run, models in shown if name in models and run.grid_png]
        prompts = shared_prompts(members)
        if len(members) < 2 or not prompts:
            continue
        cells = {run.name: cells_of(run, name) for run in members}
        rows = [(text, [encoded(cells[run.name].get(text)) for run in members]) for text in prompts]
        num_bytes = sum(len(cell) for _, row in rows for cell in row)
        if grids and used + num_bytes > MAX_PICTURE_BYTES * 4 // 3:
            left_out.append(name)
            continue
        used += num_bytes
        grids.append({"model": name, "runs": [run.name for run in members], "rows": rows})
    return grids, left_out


def shared_prompts(runs: Sequence[RunView]) -> list[str]:
    """Texts of grid prompts that at least two of the runs painted, in the order they first appear."""
    texts = [[run.results.prompts[key] for key in run.results.grid_prompts] for run in runs if run.results]
    every = list(dict.fromkeys(text for run in texts for text in run))
    return [text for text in every if sum(text in run for run in texts) > 1]


def cells_of(run: RunView, model: str) -> dict[str, Image.Image]:
    """Prompt text -> picture of one model, cut from the run's grid."""
    assert run.results is not None, "a run with a grid has results"
    column = [name_of(row) for row in run.results.models].index(model)
    pictures = cut_cells(run.grid_png, len(run.results.models), len(run.results.grid_prompts), run.results.resolution_px)
    return {run.results.prompts[key]: row[column] for key, row in zip(run.results.grid_prompts, pictures, strict=True)}


def encoded(picture: Image.Image | None) -> str:
    """PNG as base64; empty for a prompt the run did not paint."""
    if picture is None:
        return ""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
