"""`imagewright doctor`: one line for each thing that jobs need, with what to do about it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}
EXIT_FAILED = 1


def doctor(
    home: Annotated[
        Path | None, typer.Option("--home", envvar="IMAGEWRIGHT_HOME", help="Folder of all local state; default: .imagewright.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the findings as JSON lines.")] = False,
) -> None:
    """Check this machine and the configured services; exits with code 1 when something that jobs need does not work."""
    from imagewright import doctor as examination

    console = Console()
    with console.status("looking around"):
        findings = examination.examine(examination.all_checks(home, os.environ), os.environ)
    if json_output:
        import json
        from dataclasses import asdict

        for finding in findings:
            typer.echo(json.dumps(asdict(finding), ensure_ascii=False))
    else:
        table = Table(box=None, pad_edge=False, show_header=False)
        for finding in findings:
            detail = finding.detail if finding.state == "ok" or not finding.fix else f"{finding.detail}\n-> {finding.fix}"
            table.add_row(finding.name, f"[{COLOURS[finding.state]}]{finding.state}[/]", detail.replace("[", r"\["))
        console.print(table)
    if any(finding.state == "failed" for finding in findings):
        raise typer.Exit(EXIT_FAILED)
