"""The live table of a run: each step with its state, time and key figure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from imagewright.launch.runs import RunFolder

STYLES = {
    "cached": "cyan",
    "done": "green",
    "running": "bold yellow",
    "waiting": "yellow",
    "failed": "bold red",
    "pending": "dim",
    "lost": "red",
}


def table(folder: RunFolder, jobs: Sequence[str], alive: bool = True) -> RenderableType:
    """Renders the state of a run: one row per job in graph order, then the error if there is one."""
    steps = folder.steps()
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column, justify in (("step", "left"), ("state", "left"), ("seconds", "right"), ("result", "left")):
        grid.add_column(column, justify=justify, no_wrap=column != "result")  # type: ignore[arg-type]
    for job in jobs:
        step = steps.get(job)
        status = "pending" if step is None else str(step["status"])
        if status in {"running", "waiting"} and not alive:
            status = "lost"
        grid.add_row(
            job, Text(status, style=STYLES.get(status, "")), seconds(step), Text(figure(step), style="dim" if status == "cached" else "")
        )
    error = folder.state().get("error") or ""
    return Group(grid, Text(error, style="red")) if error else grid


def seconds(step: dict[str, Any] | None) -> str:
    """Wall seconds of a step; of a running one, so far."""
    if step is None:
        return ""
    spent = step.get("wall_seconds", time.time() - step["started"])
    return f"{spent:.1f}"


def figure(step: dict[str, Any] | None) -> str:
    """The most telling figures of a step: why it failed or was skipped, else its first metrics, else its counts."""
    if step is None:
        return ""
    if step["status"] in {"failed", "waiting"} or step.get("skipped"):
        return str(step.get("skipped") or step.get("detail", "")).split("\n", 1)[0][:160]
    metrics = [f"{name} {value:.4g}" for name, value in list(step.get("metrics", {}).items())[:3]]
    counts = [f"{name} {value:,}" for name, value in list(step.get("counts", {}).items())[:3]]
    return ", ".join(metrics or counts)
