"""The capability-drift report as one HTML file: claims, every row by domain and skill with intervals, pictures side by side."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from imagewright.evaluation.capability_drift import OVERALL, ArmResult, DriftReport
from imagewright.evaluation.generation import Pixels
from imagewright.evaluation.grid import GAP_PX, cell_size, write_grid

DRIFT_NAME, GRID_NAME, PAGE_NAME = "drift.json", "drift.png", "drift.html"
NOT_MEASURED = "no such model in this run"


def write_drift(report: DriftReport, columns: list[list[Pixels]], routing: dict[str, Any], folder: Path) -> Path:
    """Writes `drift.json`, `drift.png` and `drift.html` into a folder; returns the page. routing: `routing.json` of the student, or {}."""
    (folder / DRIFT_NAME).write_text(
        json.dumps({**report.tree(), "routing": routing}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    write_grid(columns, folder / GRID_NAME)
    page = folder / PAGE_NAME
    page.write_text(render_drift(report, (folder / GRID_NAME).read_bytes(), columns[0][0].shape[0], routing), encoding="utf-8")
    return page


def render_drift(report: DriftReport, grid_png: bytes, side_px: int, routing: dict[str, Any]) -> str:
    """Returns the HTML."""
    environment = Environment(
        loader=PackageLoader("imagewright.evaluation"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    cell = cell_size(side_px)
    return environment.get_template("drift.html").render(
        groups=[{"name": name, "prompts": count} for name, count in report.groups.items()],
        rows=[page_row(report, row) for row in report.rows],
        claims=report.claims,
        columns=[label(row) for row in report.rows if row.scores],
        shown=report.shown,
        grid=base64.b64encode(grid_png).decode(),
        cell_px=cell,
        row_px=cell + GAP_PX,
        routing=taught_rows(routing),
        note=str(routing.get("note", "")),
        prompts=report.groups.get(OVERALL, 0),
    )


def page_row(report: DriftReport, row: ArmResult) -> dict[str, Any]:
    """One row of the table; `cells` is empty where no model was given."""
    cells = [row.scores[name] for name in report.groups] if row.scores else []
    worst = report.worst_drop.get(f"{row.arm.name}, {row.arm.num_evaluations} NFE")
    drop = f"{worst[0].split(' ', 1)[-1]}: {worst[1].value:+.3f} [{worst[1].low:+.3f}, {worst[1].high:+.3f}]" if worst else ""
    return {"label": label(row), "cells": cells, "missing": "" if cells else NOT_MEASURED, "worst": drop}


def label(row: ArmResult) -> str:
    """Name, steps, guidance and network evaluations of a row."""
    arm = row.arm
    return f"{arm.name}, {arm.num_steps} steps, g {arm.guidance_scale:g} ({arm.num_evaluations} NFE)"


def taught_rows(routing: dict[str, Any]) -> list[dict[str, str]]:
    """Who taught what: one row per domain, objective and noise band."""
    found = []
    for domain, objectives in routing.get("taught", {}).items():
        for objective, bands in objectives.items():
            for band, teachers in bands.items():
                shares = ", ".join(f"{name} {count:.0f}" for name, count in teachers.items())
                found.append({"domain": str(domain), "objective": str(objective), "band": str(band), "teachers": shares})
    return found
