"""`imagewright compare`: what differs between pipeline runs, and whether the difference in scores means anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from imagewright.cli.run import home_folder
from imagewright.errors import InputError, Problem

if TYPE_CHECKING:
    from imagewright.evaluation.comparison import Comparison

Runs = Annotated[
    list[str], typer.Argument(help="Two or more pipeline run ids; the first is the one compared against.", metavar="RUN RUN...")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
HtmlFile = Annotated[str, typer.Option("--html", metavar="FILE", help="Write one self-contained page with scores and pictures.")]
Open = Annotated[bool, typer.Option("--open", help="Open the page in the browser; without --html it goes into the home folder.")]
StoreUrl = Annotated[str, typer.Option("--store", envvar="IMAGEWRIGHT_STORE_URL", help="file:///folder or s3://bucket/prefix.")]


def compare(runs: Runs, as_json: AsJson = False, html: HtmlFile = "", in_browser: Open = False, store: StoreUrl = "") -> None:
    """Compare pipeline runs: settings, data, metrics, pictures, and scores paired by prompt."""
    if len(set(runs)) < 2:
        raise InputError(Problem("run", "compare needs two different runs", runs, "imagewright compare RUN RUN"))
    from imagewright.evaluation.comparison import compare_runs, load_run
    from imagewright.storage import open_store, store_from_environment

    opened = open_store(store) if store else store_from_environment()
    views = [load_run(opened, name) for name in dict.fromkeys(runs)]
    found = compare_runs(views)
    console = Console()
    if as_json:
        typer.echo(json.dumps(found.to_tree(), indent=2))
    elif not (html or in_browser):
        print_tables(found, console)
    if html or in_browser:
        from imagewright.evaluation.comparison_page import render_comparison

        path = write_html(render_comparison(found, views), Path(html) if html else home_folder() / "comparison.html")
        if not as_json:
            console.print(f"comparison: {path}", markup=False, highlight=False, soft_wrap=True)
        if in_browser:
            typer.launch(path.as_uri())


def write_html(text: str, path: Path) -> Path:
    """Writes the page and returns its full path. Raises InputError when it cannot be written there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(
            Problem("--html", f"cannot be written: {error.strerror}", str(path), "name a file in a writable folder")
        ) from error
    return path.resolve()


def print_tables(found: Comparison, console: Console) -> None:
    """Prints one table for each part that has something to say."""
    parts = (
        ("settings that differ", found.settings),
        ("data that differs", found.data),
        ("counts that differ", found.counts),
        ("metrics", found.metrics),
    )
    for title, rows in parts:
        if rows:
            table = Table("", *map(escape, found.runs), title=title, title_justify="left")
            for name, values in rows.items():
                table.add_row(escape(name), *(escape(shown(value)) for value in values))
            console.print(table)
    if found.paired:
        table = Table("model", "difference", "95% interval", "win rate", "probability better", title=f"paired with {escape(found.runs[0])}")
        for name, pair in found.paired.items():
            interval = f"{pair.difference.low:+.3f} to {pair.difference.high:+.3f}"
            table.add_row(escape(name), f"{pair.difference.value:+.3f}", interval, f"{pair.win_rate:.2f}", f"{pair.probability_better:.3f}")
        console.print(table)


def shown(value: object) -> str:
    """A cell: numbers short, nothing as a dash."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
