"""`imagewright data funnel`: what curation removed and why, from a curated folder, a record, or a revision in the store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from imagewright.errors import InputError, Problem

MAX_FUNNEL_BYTES = 64 << 20
FUNNEL_NAME = "funnel.json"
PAGE_NAME = "funnel.html"


def show_funnel(
    source: Annotated[Path, typer.Argument(help="Curated folder, or the record.json of curate-manifest.")],
    page: Annotated[Path | None, typer.Option("--page", help="Also write the HTML page here.")] = None,
    store: Annotated[str, typer.Option("--store", envvar="IMAGEWRIGHT_STORE_URL", help="file:///folder or s3://bucket/prefix.")] = "",
) -> None:
    """Show the curation funnel: samples in and out of every stage, with the reason of every drop."""
    funnel = json.loads(read_file(source, FUNNEL_NAME, store))
    if page is not None:
        page.write_bytes(read_file(source, PAGE_NAME, store))
    console = Console()
    table = Table("stage", "in", "out", "removed", box=None, header_style="bold")
    for step in funnel["steps"]:
        removed = ", ".join(f"{reason} {count:,}" for reason, count in sorted(step["reasons"].items(), key=lambda item: -item[1]))
        table.add_row(step["stage"], f"{step['num_in']:,}", f"{step['num_out']:,}", escape(removed))
    console.print(table)
    console.print(f"{funnel['num_kept']:,} of {funnel['num_in']:,} samples are kept")
    console.print(shares_table(funnel["sampling"]))


def shares_table(shares: list[dict[str, Any]]) -> Table:
    """Natural, target and realised share of the largest categories."""
    table = Table("category", "samples", "natural", "target", "realised", box=None, header_style="bold")
    for share in shares[:20]:
        cells = (f"{share[name]:.2%}" for name in ("natural", "target", "realised"))
        table.add_row(escape(share["category"]), f"{share['num_samples']:,}", *cells)
    return table


def read_file(source: Path, name: str, store: str) -> bytes:
    """One file of a curated folder, or of the payload that a record names. Raises InputError when there is none."""
    if source.is_dir():
        path = source / name
        if not path.is_file():
            raise InputError(Problem("source", f"holds no {name}", str(source), "give the output of curate-manifest"))
        return path.read_bytes()
    import os

    from imagewright.storage import open_store, store_from_environment
    from imagewright.storage.records import read_record

    record = read_record(source)
    opened = open_store(store) if store else store_from_environment(os.environ)
    return opened.read_bytes(record.digest, MAX_FUNNEL_BYTES, name)
