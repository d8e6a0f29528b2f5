"""The report of a run: one HTML file without outside references, from records, results, curves and gate verdicts."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from imagewright.evaluation.claims import claims_of
from imagewright.evaluation.enhancer_rows import enhancer_note
from imagewright.evaluation.grid import GAP_PX, cell_size
from imagewright.evaluation.page import name_of, render_page, seconds, size
from imagewright.evaluation.results import ModelResult, Results
from imagewright.evaluation.score_table import paired_rows, paired_scale, paired_suites, score_groups, score_rows
from imagewright.evaluation.statistics import PairedComparison
from imagewright.storage.records import Record

CURVE_BOX = (46.0, 456.0, 8.0, 146.0)
MAX_CURVE_POINTS = 400


@dataclass(frozen=True)
class Verdict:
    """One rule of the gate and what it said."""

    rule: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class ReportData:
    """Everything a report may show; what is empty is left out of the page."""

    title: str
    recipe: str = ""
    records: Sequence[Record] = ()
    results: Results | None = None
    grid_png: bytes = b""
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    """Metric name -> (step, value) points."""
    gate: Sequence[Verdict] = ()


def render_report(data: ReportData) -> str:
    """Returns the HTML. Raises PageError when it would be 5 MB or more."""
    return render_page("report.html", page_of(data), "show fewer grid prompts (evaluation.grid_prompts)")


def write_report(data: ReportData, path: Path) -> None:
    """Writes the HTML file."""
    path.write_text(render_report(data), encoding="utf-8")


def page_of(data: ReportData) -> dict[str, Any]:
    """The template's variables."""
    results = data.results
    rows = results.models if results else []
    cell = cell_size(results.resolution_px) if results else 0
    compared = comparisons(rows)
    verdict = ("passed" if all(row.passed for row in data.gate) else "refused") if data.gate else ""
    funnel, funnel_note = funnel_rows(data.records)
    return {
        "title": data.title,
        "subtitle": " · ".join(part for part in (f"recipe {data.recipe}" if data.recipe else "", commit_of(data.records)) if part),
        "verdict": verdict,
        "tiles": tiles(data),
        "claims": claims_of(data.records, results),
        "results": results,
        "score_groups": score_groups(score_rows(rows, results.judge, results.suites)) if results else [],
        "enhancer_note": enhancer_note(rows),
        "failed_verdicts": [
            f"{name_of(row)}, {suite}: " + ", ".join(f"{count} verdicts {reason}" for reason, count in failed.items())
            for row in rows
            for suite, failed in row.failed_verdicts.items()
        ],
        "model_names": [name_of(row) for row in rows],
        "grid_data": base64.b64encode(data.grid_png).decode(),
        "grid_prompts": [results.prompts[key] for key in results.grid_prompts] if results else [],
        "cell_px": cell,
        "row_px": cell + GAP_PX,
        "comparisons": paired_rows(compared),
        "paired_scale": paired_scale(compared.values()),
        "gate": data.gate,
        "funnel": funnel,
        "funnel_note": funnel_note,
        "curves": [curve_of(name, points) for name, points in data.curves.items() if len(points) > 1],
        "lineage": [lineage_row(record, data.records) for record in data.records],
        "total_wall": seconds(sum(record.wall_seconds for record in data.records)),
        "footer": "Self-contained: opens offline. Written by imagewright.",
    }


def tiles(data: ReportData) -> list[dict[str, str]]:
    """The figures at the top of the page."""
    found = []
    if data.results and data.results.models:
        last = [row for row in data.results.models if not row.enhancer][-1]
        for split, label in (("seen", "seen prompts"), ("compositional", "compositional prompts")):
            overall = next(
                (score for score in last.scores if (score.suite, score.split, score.task) == ("geneval", split, "overall")), None
            )
            if overall:
                found.append({"value": f"{overall.value:.3f}", "label": f"GenEval-style overall, {name_of(last)}, {label}"})
        found.append({"value": f"{data.results.judge.ceiling_through_vae:.3f}", "label": "ceiling through the autoencoder"})
        if last.seconds_per_image:
            found.append(
                {
                    "value": f"{1000 * last.seconds_per_image:.0f} ms",
                    "label": f"per image, {name_of(last)}, {last.num_steps} steps, batched",
                }
            )
    if data.records:
        found.append(
            {"value": seconds(sum(record.wall_seconds for record in data.records)), "label": f"wall time of {len(data.records)} steps"}
        )
    return found


def comparisons(rows: Sequence[ModelResult]) -> dict[str, PairedComparison]:
    """Each stage against the one before it, then every enhanced row against the same model without enhancer, suite by suite."""
    plain = [row for row in rows if not row.enhancer]
    pairs = list(pairwise(plain))
    pairs += [(row, other) for row in plain for other in rows if other.enhancer and other.lineage == row.lineage]
    return {
        f"{name_of(after)} against {name_of(before)}" + (f", {suite}" if suite else ""): pair
        for before, after in pairs
        for suite, pair in paired_suites(after, before).items()
    }


def funnel_rows(records: Sequence[Record]) -> tuple[list[dict[str, Any]], str]:
    """Rows of the data funnel from the counts of the curation record, and a sentence that says whether they add up."""
    record = next(
        (record for record in records if {"num_in", "num_kept", "num_dropped"} <= record.counts.keys() and "curat" in record.job), None
    )
    if record is None:
        return [], ""
    total = max(1, record.counts["num_in"])
    drops = {
        name.removeprefix("num_dropped_").replace("_", " "): count
        for name, count in record.counts.items()
        if name.startswith("num_dropped_")
    }
    rows = [{"name": "in", "count": record.counts["num_in"], "share": 1.0, "total": True}]
    rows += [
        {"name": name, "count": count, "share": count / total, "total": False}
        for name, count in sorted(drops.items(), key=lambda item: -item[1])
    ]
    rows.append({"name": "kept", "count": record.counts["num_kept"], "share": record.counts["num_kept"] / total, "total": True})
    exact = record.counts["num_kept"] + record.counts["num_dropped"] == record.counts["num_in"]
    return rows, f"Kept + dropped {'=' if exact else 'does not equal'} in. Every dropped sample has one reason."


def curve_of(name: str, points: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """One metric as an SVG polyline with three grid lines; long curves are thinned evenly."""
    thin = points[:: max(1, len(points) // MAX_CURVE_POINTS)]
    left, right, top, bottom = CURVE_BOX
    low, high = min(value for _, value in thin), max(value for _, value in thin)
    first, last = thin[0][0], thin[-1][0]
    span, steps = (high - low) or 1.0, (last - first) or 1
    line = " ".join(
        f"{left + (step - first) / steps * (right - left):.1f},{bottom - (value - low) / span * (bottom - top):.1f}" for step, value in thin
    )
    ticks = [{"y": bottom - share * (bottom - top), "label": f"{low + share * span:.3g}"} for share in (0.0, 0.5, 1.0)]
    return {"name": name, "points": line, "ticks": ticks, "first": first, "last": last}


def lineage_row(record: Record, records: Sequence[Record]) -> dict[str, str]:
    """One step of the run; inputs are named by the job that made them where it is on the page."""
    makers = {other.digest: other.job for other in records if other.digest}
    made_from = [f"{name} ({makers[digest]})" if digest in makers else name for name, digest in record.inputs.items()]
    return {
        "job": record.job,
        "revision": record.revision or record.skipped,
        "digest": record.digest[:12],
        "inputs": ", ".join(made_from),
        "size": size(record.size_bytes),
        "wall": seconds(record.wall_seconds),
    }


def commit_of(records: Sequence[Record]) -> str:
    """The code commit, when every record names the same."""
    commits = {record.git_commit for record in records}
    return f"commit {commits.pop()[:10]}" if len(commits) == 1 and commits != {""} else ""
