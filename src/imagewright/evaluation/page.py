"""What every HTML page of the evaluation shares: one file without outside references, below a size, with readable figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from imagewright.errors import InputError, Problem
from imagewright.evaluation.results import ModelResult

MAX_PAGE_BYTES = 5_000_000


class PageError(InputError):
    """A page that cannot be written as one small file."""


def render_page(template: str, variables: Mapping[str, Any], fix: str) -> str:
    """Renders a template of this package. Raises PageError at 5 MB or more (mail and MLflow's viewer stay usable below)."""
    environment = Environment(
        loader=PackageLoader("imagewright.evaluation"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    html = environment.get_template(template).render(variables)
    if len(html.encode()) >= MAX_PAGE_BYTES:
        raise PageError(Problem("report", f"must stay below {MAX_PAGE_BYTES} bytes", len(html.encode()), fix))
    return html


def name_of(row: ModelResult) -> str:
    """Column name of a model."""
    return f"{row.lineage} + enhancer" if row.enhancer else row.lineage


def seconds(value: float) -> str:
    """12.3 s, 4 min 5 s, 2 h 10 min."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(num_bytes: int) -> str:
    """Bytes in a readable unit."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:.1f} {unit}"
    return f"{num_bytes} B"


def figure(value: object) -> str:
    """A cell of a table: numbers short, nothing as a dash, lists readable."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(figure(item) for item in value) or "none"
    return str(value)
